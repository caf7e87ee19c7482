"""Database engine, tables and migrations, and the files that hold run output and sources."""
