"""How a run uses the machine."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from spineone_core.detection.views import PRECISIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a run uses the machine; the recipe says what it learns.

    ``precision`` is fp32 or bf16 (autocast; losses stay in fp32). A batch is split into ``micro_batches`` parts that are
    computed one after the other, and their gradients are averaged. This saves memory; batch normalisation sees one part at
    a time, as it does with several processes, unless ``sync_bn`` lets it see the parts of all processes (on GPUs).
    ``workers`` processes prepare samples during the training. ``backbone`` is a file of torchvision's weights. After
    ``patience`` validations without a better score the run ends (0: never). ``mlflow`` names an experiment, if not empty.
    A checkpoint is written when ``checkpoint_every_s`` seconds have gone by since the last, within an epoch too, and after
    each validation.
    """

    device: str = "auto"
    precision: str = "fp32"
    micro_batches: int = 1
    sync_bn: bool = False
    workers: int = 0
    backbone: Path | None = None
    patience: int = 0
    mlflow: str = ""
    checkpoint_every_s: float = 180.0

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r}; allowed: {', '.join(PRECISIONS)}")
        if self.micro_batches < 1 or self.workers < 0:
            raise ValueError(f"micro_batches {self.micro_batches}, workers {self.workers}; allowed: from 1, from 0 on")
        if self.patience < 0:
            raise ValueError(f"patience {self.patience}; allowed: from 0 on")
        if not self.checkpoint_every_s >= 0:
            raise ValueError(f"checkpoint_every_s {self.checkpoint_every_s}; allowed: from 0 on")


# More processes than this only compete for memory: one core prepares the samples of several GPU steps.
MOST_WORKERS = 8
# What the batches of one of them may take of the memory in which they are handed over: four of 16 pictures of the paper's size.
SHARED_BYTES_A_WORKER = 2**29
_SHARED_MEMORY = Path("/dev/shm")


def workers_of(text: str) -> int:
    """The number of processes that a number or ``auto`` asks for.

    ``auto`` leaves one core to each training process of this machine and shares the others among them, at most eight each, and
    at most one for each half GiB of free shared memory: containers often have 64 MiB, and a loader dies where it is full.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text == "auto":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return max(
            0, min(MOST_WORKERS, _cores() // processes - 1, _shared_bytes() // SHARED_BYTES_A_WORKER // processes)
        )
    if not text.isdecimal():
        raise ValueError(f"workers {text!r}; allowed: auto, or a number from 0 on")
    return int(text)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _shared_bytes() -> int:
    """The free bytes of the memory that processes share; without a limit of its own where the system has no such folder."""
    return shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 2**62
