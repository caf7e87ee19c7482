"""Where a run's files come from: a git repository or an uploaded archive, made into one tar for the container."""
