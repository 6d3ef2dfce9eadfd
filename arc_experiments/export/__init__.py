"""What a run has trained, as a plain folder that other programs load."""
