"""Time and peak extra memory of our position attention and of the obvious form, each in a process of its own.

    python benchmarks/attention_memory.py [--side 160] [--channels 64] [--backward] [--device cpu|cuda]

On the CPU, the peak is the highest resident set during the call (VmHWM, which is reset before it) minus what was resident
before. On CUDA, it is PyTorch's peak of allocated bytes minus what was allocated before. It runs on Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from spineone_core.network.attention import position_attention, position_attention_reference

FORMS = {"ours": position_attention, "obvious": position_attention_reference}


def start_peak(device: str) -> int:
    """Reset the peak; returns the bytes that are held now."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def peak_bytes(device: str) -> int:
    if device == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def measure(form: str, side: int, channels: int, backward: bool, device: str) -> dict[str, float]:
    """Seconds and extra bytes of one call on one picture."""
    torch.manual_seed(0)
    query, key = (torch.randn(1, side**2, channels // 8, device=device, requires_grad=backward) for _ in range(2))
    value = torch.randn(1, side**2, channels, device=device, requires_grad=backward)
    warm = FORMS[form](query[:, :64], key[:, :64], value[:, :64])  # libraries, thread pools
    if backward:
        warm.sum().backward()
    before, started = start_peak(device), time.perf_counter()
    mixed = FORMS[form](query, key, value)
    if backward:
        mixed.square().sum().backward()
    peak = peak_bytes(device)
    return {"seconds": time.perf_counter() - started, "megabytes": (peak - before) / 1e6}


def in_child(form: str, arguments: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--form", form, "--side", str(arguments.side)]
    command += ["--channels", str(arguments.channels), "--device", arguments.device]
    if arguments.backward:
        command.append("--backward")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=160, help="height and width of the features")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--backward", action="store_true", help="forward and backward, as in training")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--form", choices=list(FORMS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.form:
        a = arguments
        print(json.dumps(measure(a.form, a.side, a.channels, a.backward, a.device)))
        return
    what = "forward and backward" if arguments.backward else "forward"
    print(f"{arguments.side} x {arguments.side} x {arguments.channels}, {what}, {arguments.device}")
    for form in FORMS:
        result = in_child(form, arguments)
        print(f"{form:<8} {result['seconds']:8.2f} s {result['megabytes']:8.0f} MB")


if __name__ == "__main__":
    main()
