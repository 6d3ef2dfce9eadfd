"""What a run needs of memory, part by part; `training/batch_size.py` is for when it runs out all the same.

weights 1.0 GB, optimizer 70 MB, training 3.1 GB (4 x 2,310 tokens), answering 1.9 GB: 4.2 GB at once

Training, losses and answers come one after another: the largest of them counts.
"""

from dataclasses import dataclass, field

from arc_experiments.config.schema import Config
from arc_experiments.resources.fake_model import FakeModel
from arc_experiments.resources.workload import TrainingRow, Workload, vision_bytes

# Bytes that optimizers keep of each trained weight, by parts of their names, the first that fits. AdamW keeps
# two moments in float32.
STATE_BYTES = (
    ("ademamix_8bit", 3.0), ("ademamix", 12.0), ("lion_8bit", 1.0), ("lion", 4.0), ("rmsprop_bnb_8bit", 1.0),
    ("rmsprop", 4.0), ("adagrad", 4.0), ("grokadamw", 12.0), ("adafactor", 0.1), ("sgd", 0.0), ("4bit", 1.0),
    ("8bit", 2.0), ("", 8.0),
)  # fmt: skip
SLACK = 1.1  # what the allocator and kernels hold beside tensors
# The same of trainings on a CPU: glibc loses much between tensors below 32 MB. 16 padded rows took 1.9.
CPU_SLACK = 1.5


@dataclass(frozen=True, kw_only=True)
class Need:
    """Bytes that one process takes in one place.

    Attributes:
        always: part by part, what is there all the time.
        phases: part by part, what comes one after another.
    """

    always: dict[str, int] = field(default_factory=dict)
    phases: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def parts(self) -> dict[str, int]:
        """What is there at the worst moment, the largest part first."""
        worst = sorted(self.phases.items(), key=lambda part: part[1])[-1:]
        parts = self.always | dict(worst)
        return dict(sorted(parts.items(), key=lambda part: -part[1]))


def optimizer_bytes(name: str, num_trained: int) -> int:
    """Return what an optimizer keeps of so many weights."""
    return int(next(size for part, size in STATE_BYTES if part in name) * num_trained)


def model_need(
    fake: FakeModel,
    config: Config,
    work: Workload,
    *,
    rows: int,
    checkpointing: bool,
    num_processes: int = 1,
    tiled: bool = False,
    slack: float = SLACK,
) -> Need:
    """Return what the model takes where it computes, in one process.

    A sharded model (FSDP) keeps its share of the weights and the whole of one layer.

    Args:
        rows: of a forward pass in training, and of losses.
        tiled: whether a training makes its logits in tiles, of which none is held.
        slack: of the training.
    """
    phases = dict[str, int]()
    shares = num_processes if config.hardware.parallelism == "fsdp" else 1
    always = {"weights": fake.weights // shares + (fake.largest_layer if shares > 1 else 0)}
    trains_vision = work.row is not None and (config.model.lora is None or config.model.lora.vision)
    tiles, arrays = work.pictures.tiles, work.pictures.arrays
    # Of a row: what is given to the model, and what is made of it.
    pictures = work.pictures.num_bytes + vision_bytes(fake.config, arrays, trained=trains_vision)
    if work.row is not None:
        row = work.row
        training = fake.training(
            rows=rows,
            length=row.length,
            labelled=1 if tiled else row.labelled,
            checkpointing=checkpointing,
            tiles=tiles,
        )
        phases[f"training ({rows} x {row.length:,} tokens)"] = int(slack * training) + rows * pictures
        always["optimizer"] = optimizer_bytes(config.optim.name, fake.num_trained) // shares
        if num_processes > shares:
            always["gradients on their way"] = 4 * fake.num_trained  # DDP's buckets
    if work.record is not None and (tiled or not _covers(work.row, work.record)):
        length, answer = work.record
        loss = fake.loss(rows=rows, length=length, answer=answer, tiles=tiles)
        phases[f"validation ({rows} x {length:,} tokens)"] = int(SLACK * loss) + rows * pictures
    if work.answers is not None:
        batch = work.answers
        name = f"answering ({batch.rows} x {batch.length + batch.new_tokens:,} tokens)"
        phases[name] = int(SLACK * fake.answers(batch, tiles=tiles)) + batch.prompts * pictures
    return Need(always=always, phases=phases)


def _covers(row: TrainingRow | None, record: tuple[int, int]) -> bool:
    """Whether training on the row holds all that measuring this loss does, which then need not be counted."""
    length, answer = record
    return row is not None and row.length >= length and row.labelled > answer
