"""The processor that belongs to a vision-language model."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoProcessor, AutoTokenizer, ProcessorMixin
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.utils import is_torchvision_available

from arc_experiments.config.schema import Model
from arc_experiments.models.hub import ModelError, load

QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")

WANTED = {"smolvlm": ("torchvision", "num2words")}  # without which transformers misses other things instead
INSTALL = "pip install 'arc_experiments[vision]'"


def sees_pictures(model_config: Any) -> bool:
    """Whether transformers loads this as a model of images and text."""
    names = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return model_config.model_type in names and names[model_config.model_type] in (
        model_config.architectures or [names[model_config.model_type]]
    )


def reads_pictures(model: Model) -> bool:
    """Whether this is a vision-language model, by its config.json."""
    return sees_pictures(load(AutoConfig, model))


def load_processor(model: Model) -> Any:
    """Load the processor of a vision-language model.

    Raises:
        ModelError: the model sees no pictures, has no processor, or this needs a package.
    """
    config = load(AutoConfig, model)
    if not sees_pictures(config):
        raise ModelError(
            f"model.path={model.path} is a model of text alone, and prompt or data show pictures: use a "
            "vision-language model (model=qwen_vl, model=llama_vision_11b, model=custom_vision), or a prompt "
            "and data of text (prompt=arc24)"
        )
    missing = [name for name in WANTED.get(config.model_type, ()) if find_spec(name) is None]
    if missing:
        raise ModelError(f"model.path={model.path}: its processor needs {' and '.join(missing)}: {INSTALL}")
    if config.model_type in QWEN and not is_torchvision_available():
        return QwenPictures(load(Qwen2VLImageProcessorPil, model), load(AutoTokenizer, model))
    try:
        processor = load(AutoProcessor, model)
    except ImportError as error:
        raise ModelError(
            f"model.path={model.path}: its processor needs a package that is not installed: {INSTALL}"
        ) from error
    images = processor.image_processor
    if getattr(images, "do_image_splitting", False):
        # Idefics3 and SmolVLM would enlarge a grid and cut it into up to seventeen pictures.
        images.do_image_splitting, images.size = False, images.max_image_size
    return processor


def save_processor(processor: Any, folder: Path) -> None:
    """Save a processor beside a model, for transformers to load with it."""
    if isinstance(processor, QwenPictures):  # a class of ours, whose parts are Qwen's own
        processor.image_processor.save_pretrained(folder)
    else:
        processor.save_pretrained(folder)


class QwenPictures(ProcessorMixin):
    """The part of the processors of Qwen's models that pictures need: the whole one wants torchvision, for
    videos.
    """

    return_mm_token_type_ids = True

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self.image_token = "<|image_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    def replace_image_token(self, image_inputs: Any, image_idx: int, **options: Any) -> str:
        """Return the text of a picture: a token for each square of `merge_size` patches a side."""
        patches = int(image_inputs["image_grid_thw"][image_idx].prod())
        num_tokens: int = patches // self.image_processor.merge_size**2
        return "<|image_pad|>" * num_tokens
