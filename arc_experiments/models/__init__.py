"""Models: tokenizer and vocabulary, and in which precision they compute.

Base models and adapters are imported from `models.loading` and `models.adapters`: transformers' models and PEFT take
seconds, which tokens alone need not wait for.
"""

from arc_experiments.models.errors import ModelError
from arc_experiments.models.precision import has_bfloat16, pick_attention, pick_device, pick_dtype
from arc_experiments.models.tokenizer import ArcTokenizer, for_trainer, load_tokenizer
from arc_experiments.models.vocabulary import Vocabulary, collect, read_vocabulary, union

__all__ = [
    "ArcTokenizer",
    "ModelError",
    "Vocabulary",
    "collect",
    "for_trainer",
    "has_bfloat16",
    "load_tokenizer",
    "pick_attention",
    "pick_device",
    "pick_dtype",
    "read_vocabulary",
    "union",
]
