"""Is this installation sound? What it consists of, and a short test of it against closed forms."""
