"""Where the network runs: CPU or CUDA, compiled or not."""

from __future__ import annotations

import os
import shutil

import torch

from spineone_core.network.spineone import SpineOne


class DeviceError(Exception):
    """The device that was asked for is not there; the message names it."""


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is CUDA where there is a GPU, the CPU otherwise.

    Raises
    ------
    DeviceError
        If CUDA is asked for and not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device {name} is not available: {torch.cuda.device_count()} CUDA devices found")
    return device


def place_network(network: SpineOne, device: torch.device) -> SpineOne:
    """The same network on the device, its weights laid out as `view_maps` lays out the pictures (channels last)."""
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def gpu_memory(device: torch.device) -> tuple[str, int, int] | None:
    """Name of a CUDA device, its free bytes and its total bytes, counting all programs; None where the device is no GPU."""
    if device.type != "cuda":
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    free, total = torch.cuda.mem_get_info(index)
    return f"cuda:{index}", free, total


def has_compiler(device: torch.device) -> bool:
    """Whether ``torch.compile`` can build code for the device: on the CPU it needs a C++ compiler, for CUDA it brings its own."""
    return device.type == "cuda" or any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++"))))


def compile_network(network: SpineOne, device: torch.device) -> None:
    """Compile the network for pictures of any size; the first picture then takes a minute or more.

    Raises
    ------
    DeviceError
        If the machine cannot compile.
    """
    if not has_compiler(device):
        raise DeviceError(f"the option compiled on {device} needs a C++ compiler (g++ or clang++), which is not there")
    network.compile(dynamic=True)
