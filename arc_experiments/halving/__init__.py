"""Successive halving of a sweep."""
