"""Models: tokenizer and vocabulary, base model, and in which precision they compute.

Adapters are imported from `arc_experiments.models.adapters`: PEFT takes seconds, which tokens alone need not wait for.
"""

from arc_experiments.models.advice import notes
from arc_experiments.models.errors import ModelError
from arc_experiments.models.loading import has_random_weights, load_base, load_tokenizer, local_path
from arc_experiments.models.precision import has_bfloat16, pick_attention, pick_device, pick_dtype
from arc_experiments.models.tokenizer import ArcTokenizer, for_trainer
from arc_experiments.models.vocabulary import Vocabulary, collect, read_vocabulary, union

__all__ = [
    "ArcTokenizer",
    "ModelError",
    "Vocabulary",
    "collect",
    "for_trainer",
    "has_bfloat16",
    "has_random_weights",
    "load_base",
    "load_tokenizer",
    "local_path",
    "notes",
    "pick_attention",
    "pick_device",
    "pick_dtype",
    "read_vocabulary",
    "union",
]
