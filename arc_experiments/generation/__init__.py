"""From a model and tasks without solutions to candidates: requests -> batches -> engine -> candidates."""
