"""The processes of a training: one, or as many as ``torchrun`` started on one or several machines."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.training.run_folder import TrainingError

# The others end after this time if a process is gone. Their longest wait is for the first process to write.
TIMEOUT = timedelta(hours=1)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process is number ``rank`` of ``world`` processes; rank 0 writes."""

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """What torchrun put into the environment (``RANK``, ``WORLD_SIZE`` and the address); without that, one process."""
        if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
            atexit.register(dist.destroy_process_group)
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def wrap(self, module: nn.Module, *, sync_bn: bool = False) -> nn.Module:
        """The module, made so that its gradients are the mean over all processes.

        With ``sync_bn``, batch normalisation sees the samples of all processes; one process alone has them all anyway.

        Raises
        ------
        TrainingError
            If ``sync_bn`` is asked for on CPUs, which torch cannot do.
        """
        if self.world == 1:
            return module
        if sync_bn:
            if any(parameter.device.type != "cuda" for parameter in module.parameters()):
                raise TrainingError("--sync-bn needs GPUs; with CPUs leave it out")
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return DistributedDataParallel(module)

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any of the processes says so."""
        if self.world == 1:
            return flag
        flags = torch.tensor(float(flag), device=device)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every so many-th of the items, for this process; all processes together have each once."""
        return items[self.rank :: self.world]

    def gather(self, mine: Sequence[T]) -> list[T]:
        """What all processes made of their `share`, in the order of the items; every process gets it."""
        if self.world == 1:
            return list(mine)
        parts: list[Sequence[T]] = [()] * self.world
        dist.all_gather_object(parts, mine)
        return [parts[n % self.world][n // self.world] for n in range(sum(map(len, parts)))]

    def align(self, network: nn.Module) -> None:
        """Give every process the first one's buffers: each has had its own statistics of batch normalisation."""
        if self.world > 1:
            for buffer in network.buffers():
                dist.broadcast(buffer, 0)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values

    def wait(self) -> None:
        """Wait until every process has come this far."""
        if self.world > 1:
            dist.barrier()


def local_device(device: torch.device) -> torch.device:
    """The device of this process: torchrun's ``LOCAL_RANK`` gives each process of a machine a GPU of its own."""
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device
