"""The folder of a run: ``config.json``, ``run.toml``, ``log.jsonl``, ``tensorboard/``, ``last.pt`` and ``best/``."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from spineone_core import strict_json


class TrainingError(Exception):
    """A run cannot go on; the message says why."""


def read_json(path: Path) -> dict[str, Any]:
    """The object that a file of a run holds.

    Raises
    ------
    TrainingError
        If it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise TrainingError(f"{path}: holds no JSON object")
    return content


class RunFolder:
    """The files of a run. Only the first process of a training writes them (``writes``).

    ``show`` gets each entry of the log as well.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self.show: Callable[[dict[str, Any]], None] = lambda entry: None

    @property
    def best(self) -> Path:
        """The model package with the best validation."""
        return self.path / "best"

    @property
    def checkpoint(self) -> Path:
        """The file from which a run is resumed."""
        return self.path / "last.pt"

    def begin(self, config: dict[str, Any], files: Mapping[str, str] | None = None) -> None:
        """Make the folder, write ``config.json`` and further files, and drop an older log; only the process that writes does."""
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)
            self.describe(config, files)
            (self.path / "log.jsonl").unlink(missing_ok=True)

    def describe(self, config: dict[str, Any], files: Mapping[str, str] | None = None) -> None:
        """Write ``config.json`` and further files anew, each in one step; only the process that writes does so."""
        if not self.writes:
            return
        text = strict_json.dumps({**config, "code": code_version()}, indent=1, default=str)
        for name, content in {**(files or {}), "config.json": text}.items():
            part = self.path / f"{name}.part"
            part.write_text(content, encoding="utf-8")
            part.replace(self.path / name)

    def config(self) -> dict[str, Any]:
        """What ``config.json`` says.

        Raises
        ------
        TrainingError
            If it cannot be read.
        """
        return read_json(self.path / "config.json")

    def entries(self) -> list[dict[str, Any]]:
        """The log, as far as it is complete."""
        return [json.loads(line) for line in _whole_lines(self.path / "log.jsonl")]

    def log(self, entry: dict[str, Any]) -> str:
        """Append a line to the log and return it."""
        line = strict_json.dumps(entry)
        if self.writes:
            with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            self.show(entry)
        return line

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint in one step: whatever happens, either the old or the new one is there and complete.

        Raises
        ------
        TrainingError
            If it cannot be written; the old one stays.
        """
        if not self.writes:
            return
        part = self.checkpoint.with_suffix(".part")
        try:
            with part.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.checkpoint)
        except (OSError, RuntimeError) as error:  # torch wraps a failed write
            part.unlink(missing_ok=True)
            kept = "the one before stays" if self.checkpoint.exists() else "there is none before it"
            raise TrainingError(f"checkpoint {self.checkpoint} cannot be written ({error}); {kept}") from error

    def load(self, device: torch.device) -> dict[str, Any]:
        """The checkpoint; nothing is changed.

        Raises
        ------
        TrainingError
            If it cannot be read.
        """
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location=device, weights_only=True)
        except pickle.UnpicklingError as error:
            raise TrainingError(
                f"checkpoint {self.checkpoint} cannot be read: it is damaged, or not a checkpoint of this trainer"
            ) from error
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            raise TrainingError(f"checkpoint {self.checkpoint} cannot be read ({error})") from error
        return state

    def trim_log(self, step: int) -> None:
        """Remove what the log holds from after a step, as the resumed run writes it again."""
        if not self.writes:
            return
        path = self.path / "log.jsonl"
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
        part = path.with_suffix(".part")
        part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        part.replace(path)


def _whole_lines(path: Path) -> list[str]:
    """The complete lines of a log; a kill may have cut off the last one."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line for line in lines if line.startswith("{") and line.endswith("}")]


def code_version() -> dict[str, str]:
    """The versions of this project and of torch, and the commit if it runs from a checkout."""
    found = {"torch": str(torch.__version__)}
    with suppress(PackageNotFoundError):
        found["spineone-node"] = version("spineone-node")
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
        with suppress(OSError, subprocess.SubprocessError):
            found["commit"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return found
