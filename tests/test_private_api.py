"""What is used of other libraries without their promise to keep it: each test says what broke, and where."""

import inspect

import accelerate
from accelerate import DistributedType, PartialState
from datasets import Dataset
from transformers import Trainer
from trl import SFTConfig, SFTTrainer
from trl.trainer import base_trainer, sft_trainer, utils


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_a_dataset_takes_its_transform_without_naming_a_cache() -> None:
    """training/dataset.py: `Dataset.set_format` below its decorator."""
    table = Dataset.from_dict({"index": [1, 2]})
    before = table._fingerprint
    Dataset.set_format.__wrapped__(
        table, "custom", transform=lambda rows: {"twice": [2 * n for n in rows["index"]]}
    )
    assert table[1] == {"twice": 4}
    assert table._fingerprint == before


def test_the_trainer_loads_a_checkpoints_weights_by_the_methods_that_we_call() -> None:
    """training/trainer.py and training/best.py: a finished training, and the best weights."""
    assert parameters(Trainer._load_from_checkpoint)[:2] == ["self", "resume_from_checkpoint"]
    assert parameters(Trainer._prepare_for_training)[1:4] == [
        "max_steps",
        "train_dataloader",
        "resume_from_checkpoint",
    ]


def test_the_trainer_clips_gradients_by_the_method_that_we_replace() -> None:
    """adapters_at_once/trainer.py: each adapter is clipped by its own norm."""
    assert parameters(Trainer._clip_grad_norm) == ["self", "model"]
    assert "self._clip_grad_norm(model)" in inspect.getsource(Trainer)


def test_the_trainer_asks_for_an_optimizer_steps_batches_by_the_method_that_we_extend() -> None:
    """training/trainer.py: counts, pauses and waiting are taken there."""
    assert parameters(Trainer.get_batch_samples)[1:4] == ["epoch_iterator", "num_batches", "device"]
    assert parameters(SFTTrainer.compute_loss)[1:] == [
        "model",
        "inputs",
        "return_outputs",
        "num_items_in_batch",
    ]


def test_the_fused_lm_head_gives_token_log_probabilities() -> None:
    """adapters_at_once/trainer.py: the loss of each adapter on a GPU."""
    assert "fused_lm_head=False" in inspect.getsource(utils.add_fused_lm_head)
    assert "log_probs" in utils.FusedCausalLMOutput.__dataclass_fields__


def test_trl_needs_wandb_for_model_cards_alone() -> None:
    """launching/quick_imports.py: TRL is imported without wandb. training/trainer.py: no model cards."""
    for module in (base_trainer, sft_trainer, utils):
        functions = [value for _, value in inspect.getmembers(module, inspect.isfunction)]
        for _, kind in inspect.getmembers(module, inspect.isclass):
            functions += [value for value in vars(kind).values() if inspect.isfunction(value)]
        own = [function for function in functions if function.__module__ == module.__name__]
        users = {function.__name__ for function in own if "wandb" in function.__code__.co_names}
        assert users <= {"create_model_card"}
    assert parameters(SFTTrainer.create_model_card) == ["self", "model_name", "dataset_name", "tags"]


def test_sharding_reaches_accelerate_by_the_names_that_we_set() -> None:
    """training/sharding.py: CPUs count as accelerators while the trainer is made, and sums stay float32."""
    assert "DistributedType.MULTI_GPU" in inspect.getsource(accelerate.state.AcceleratorState.__init__)
    assert hasattr(DistributedType, "MULTI_CPU")
    arguments = SFTConfig(fsdp=True, fsdp_config={"version": 2}, use_cpu=True, report_to="none")
    assert isinstance(arguments.fsdp_plugin_args, dict)
    assert "distributed_type" in PartialState._shared_state


def test_accelerate_wraps_a_model_under_the_names_that_we_take_off() -> None:
    """adaptation/training.py: one model is trained again and again, each time by a new trainer."""
    source = inspect.getsource(accelerate.Accelerator)
    assert "model._original_forward = model.forward" in source
    assert "_is_accelerate_prepared = True" in source
