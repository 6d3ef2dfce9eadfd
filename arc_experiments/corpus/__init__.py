"""Decide which tasks train and which are held out, and find tasks of one set in another."""
