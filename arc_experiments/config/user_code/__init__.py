"""The user's own Python code, and the folders that it is in."""
