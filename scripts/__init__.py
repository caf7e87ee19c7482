"""What `make` stands on: each file finds, builds or starts one thing, and does nothing the second time."""
