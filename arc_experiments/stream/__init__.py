"""Sample i of a run: a function of (seed, i)."""
