"""What can be wrong with each section."""
