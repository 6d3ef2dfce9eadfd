"""The one kind of mistake that all of this package reports."""


class ModelError(ValueError):
    """A model that cannot be had or used as described; the message names the key and the remedy."""
