"""A training that needs more memory than there is: how that is recognised, and what can be changed."""

from __future__ import annotations

import torch

from trainer.training.options import RunOptions


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a GPU or the machine has no memory left."""
    # torch's CPU allocator has no exception of its own, nor has a loader whose process the kernel killed.
    said = ("can't allocate memory", "is killed by signal: Killed")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in said)


def next_micro_batches(batch: int, world: int, count: int) -> int | None:
    """The next larger number of micro-batches that shares the batch evenly; None if there is none."""
    return next((n for n in range(count + 1, batch // world + 1) if batch % (world * n) == 0), None)


def advice(batch: int, world: int, options: RunOptions, device: torch.device) -> str:
    """What to change so that a step needs less memory, the change that alters least first."""
    more = next_micro_batches(batch, world, options.micro_batches)
    ways = [f"--micro-batches {more}"] if more else []
    if options.precision == "fp32":
        ways.append("--precision bf16")
    ways += ["a smaller --crop", "a smaller --batch", "a smaller --width"]
    if options.workers:
        ways.append("fewer --workers")
    part = batch // (world * options.micro_batches)
    return f"no memory left for {part} samples at a time on {device}; try {', '.join(ways[:-1])} or {ways[-1]}"
