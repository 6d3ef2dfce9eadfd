"""From a model and tasks without solutions to candidates."""
