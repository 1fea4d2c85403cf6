"""The processes of a training: one, or as many as ``torchrun`` started on one or several machines."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.training.run_folder import TrainingError

# The others end after this time if a process is gone. Their longest wait is for the first process to validate.
TIMEOUT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process is number ``rank`` of ``world`` processes; rank 0 writes and validates."""

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
