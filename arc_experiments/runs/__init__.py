"""One run, one folder: its files, lock, state and machine."""
