"""Leaks: which tasks of one set stand in another, whatever their ids, turned or recoloured.

sought tasks (few) ──8 orientations, colours numbered──> Finder
searched tasks (many) ──each pair as it stands, colours numbered──> looked up ──> Comparison: Leaks: Matches
"""

from arc_experiments.leaks.found import Comparison, Leak, Match, pairs_of
from arc_experiments.leaks.keys import KEY_BYTES, key
from arc_experiments.leaks.search import Finder, Searched, keys_to_keep

__all__ = [
    "KEY_BYTES",
    "Comparison",
    "Finder",
    "Leak",
    "Match",
    "Searched",
    "key",
    "keys_to_keep",
    "pairs_of",
]
