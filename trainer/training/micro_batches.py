"""Which samples each process computes together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from trainer.training.run_folder import TrainingError


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatches:
    """The numbers of the samples in each micro-batch of one process, from ``first_step`` to before ``steps``.

    A ``batch`` has (``world`` x ``count``) equal parts, and process ``rank`` takes neighbouring ones.

    Raises
    ------
    TrainingError
        If the batch cannot be shared evenly.
    """

    batch: int
    count: int
    rank: int
    world: int
    first_step: int
    steps: int

    def __post_init__(self) -> None:
        if self.batch % (self.world * self.count):
            raise TrainingError(
                f"a batch of {self.batch} cannot be shared by {self.world} processes"
                f" with {self.count} micro-batches each"
            )

    @property
    def size(self) -> int:
        """Samples of one micro-batch."""
        return self.batch // (self.world * self.count)

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.count

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.steps):
            for n in range(self.count):
                start = step * self.batch + (self.rank * self.count + n) * self.size
                yield list(range(start, start + self.size))
