"""The folder of a run: ``config.json``, ``log.jsonl``, ``tensorboard/``, ``last.pt`` and ``best/``."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


class TrainingError(Exception):
    """A run cannot go on; the message says why."""


class RunFolder:
    """The files of a run. Only the first process of a training writes them (``writes``)."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        self._board: Any = None

    @property
    def best(self) -> Path:
        """The model package with the best validation."""
        return self.path / "best"

    @property
    def checkpoint(self) -> Path:
        """The file from which a run is resumed."""
        return self.path / "last.pt"

    def begin(self, config: dict[str, Any]) -> None:
        """Make the folder, write ``config.json`` and drop an older log; only the process that writes does so."""
        if self.writes:
            self.path.mkdir(parents=True, exist_ok=True)
            text = json.dumps({**config, "code": code_version()}, indent=1, default=str)
            (self.path / "config.json").write_text(text, encoding="utf-8")
            (self.path / "log.jsonl").unlink(missing_ok=True)

    def log(self, entry: dict[str, Any]) -> str:
        """Append a line to the log and return it. TensorBoard gets its numbers too, if it is installed."""
        line = json.dumps(entry)
        if self.writes:
            with (self.path / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            self._show(entry)
        return line

    def _show(self, entry: dict[str, Any]) -> None:
        if self._board is None:
            self._board = _open_board(self.path / "tensorboard", int(entry["step"])) or False
        if not self._board:
            return
        validation = entry.get("validation", {})
        for prefix, figures in (("training", entry), ("validation", validation)):
            for name, value in figures.items():
                if isinstance(value, int | float) and name not in ("step", "epoch"):
                    self._board.add_scalar(f"{prefix}/{name}", value, entry["step"])
        self._board.flush()

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
        """The checkpoint. What the log holds from after it is removed, as the resumed run writes it again."""
        try:
            state: dict[str, Any] = torch.load(self.checkpoint, map_location=device, weights_only=True)
        except pickle.UnpicklingError as error:
            raise TrainingError(
                f"checkpoint {self.checkpoint} cannot be read: it is damaged, or not a checkpoint of this trainer"
            ) from error
        except (OSError, RuntimeError, EOFError, ValueError) as error:
            raise TrainingError(f"checkpoint {self.checkpoint} cannot be read ({error})") from error
        if self.writes:
            self._trim_log(int(state["step"]))
        return state

    def _trim_log(self, step: int) -> None:
        path = self.path / "log.jsonl"
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= step]
        part = path.with_suffix(".part")
        part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        part.replace(path)


def _whole_lines(path: Path) -> list[str]:
    """The complete lines of a log; a kill may have cut off the last one."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line for line in lines if line.startswith("{") and line.endswith("}")]


def _open_board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, or None if the package is not installed (extra ``train``)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=step)


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
