"""What a program may use; a run takes it from `programs` in `conf/config.yaml`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ProgramLimits:
    """What one program may use on one input.

    Attributes:
        cpu_seconds: of its own CPU time, so that a busy machine gives the same outcomes as an idle one.
        memory_bytes: of its heap.
        output_bytes: of its result.
    """

    cpu_seconds: float = 2.0
    memory_bytes: int = 512 * 2**20
    output_bytes: int = 1 * 2**20
