"""Seconds of a call on a device, memory at most, and the share of what the device can compute."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def wait_for(device: torch.device) -> None:
    """Until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], Any], device: torch.device, budget_s: float, warm_up: int = 2) -> float:
    """The median of as many calls as fit into ``budget_s``, at least one, after ``warm_up`` that do not count."""
    for _ in range(warm_up):
        call()
    wait_for(device)
    spent: list[float] = []
    while not spent or sum(spent) < budget_s:
        began = time.perf_counter()
        call()
        wait_for(device)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def operations_of(call: Callable[[], Any]) -> int:
    """The floating-point operations of a call's matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def roof(device: torch.device, dtype: torch.dtype, budget_s: float, side: int) -> float:
    """Operations a second of large matrix products: what this device reaches at best, measured and not from a data sheet."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: a @ b, device, budget_s)


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int | None:
    """The most that a call holds beyond what was held before; None on a CPU, of which torch does not tell."""
    if device.type != "cuda":
        call()
        return None
    wait_for(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    wait_for(device)
    return int(torch.cuda.max_memory_allocated(device)) - before
