"""Every key of a composition: its type, its default, and what can be wrong with it."""
