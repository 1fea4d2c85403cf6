"""What the measurements found, as JSON and as Markdown."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

NOT_MEASURED = "not measured"
# Parts whose rows decide the exit status. A missed target of speed is a figure, not a fault.
JUDGED = ("checks", "findings")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. ``value`` is None where it was not measured; ``note`` then says why. ``passed`` is None without a target."""

    part: str
    name: str
    value: float | None = None
    unit: str = ""
    target: str = ""
    passed: bool | None = None
    note: str = ""


@dataclass(slots=True)
class Table:
    """The rows so far; both files are written anew after each part, so that what was measured is there whatever comes."""

    folder: Path
    device: torch.device
    rows: list[Row] = field(default_factory=list)

    def machine(self) -> dict[str, Any]:
        """Where and when."""
        cuda = self.device.type == "cuda"
        return {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": torch.cuda.get_device_name(self.device) if cuda else f"CPU {platform.machine()}",
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda if cuda else None,
        }

    def add(self, rows: list[Row]) -> None:
        """Take in the rows of a part, and write."""
        self.rows += rows
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"machine": self.machine(), "rows": [asdict(row) for row in self.rows]}
        (self.folder / "gpu.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (self.folder / "gpu.md").write_text(self.markdown(), encoding="utf-8")

    @property
    def failed(self) -> list[Row]:
        """Checks that did not hold, and parts that could not run."""
        return [row for row in self.rows if row.passed is False and (row.part in JUDGED or row.value is None)]

    def markdown(self) -> str:
        """The table with the machine above it."""
        said = ", ".join(f"{name} {value}" for name, value in self.machine().items() if value is not None)
        lines = [said, "", "| part | what | measured | target | note |", "| --- | --- | --- | --- | --- |"]
        for row in self.rows:
            verdict = {True: " (met)", False: " (missed)", None: ""}[row.passed]
            value = NOT_MEASURED if row.value is None else f"{row.value:.4g} {row.unit}".strip()
            lines.append(
                f"| {row.part} | {row.name} | {value} | {row.target}{verdict if row.target else ''} | {row.note} |"
            )
        return "\n".join(lines) + "\n"
