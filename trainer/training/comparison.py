"""Runs side by side: what they were given, how far they came, what they reached, and their curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spineone_core import strict_json
from spineone_core.detection.model_package import MANIFEST
from trainer.curation.html import Section, as_source, as_text, render
from trainer.evaluation.evaluation_page import text_of
from trainer.evaluation.plots import NoPlotsError, epochs_plot
from trainer.training.run_folder import RunFolder, TrainingError, read_json
from trainer.training.run_settings import deciding, shown

# Figures of a log line that get a curve, where a run has them.
CURVES = (
    "loss",
    "log_loss",
    "pck6_level_strict",
    "all_levels_right",
    "disc_macro_f1",
    "vertebra_macro_f1",
    "mean_error_mm",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """What a run folder says: ``settings`` that decide its outcome, its log and the figures of its best package."""

    name: str
    settings: Mapping[str, Any]
    epochs: int
    entries: Sequence[Mapping[str, Any]] = field(default=())
    best_epoch: int | None = None
    best: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The epochs that are done."""
        return max((int(entry["epoch"]) for entry in self.entries), default=0)

    def curve(self, name: str) -> dict[float, float]:
        """Epoch -> a figure of training or validation."""
        found = {}
        for entry in self.entries:
            value = entry.get("validation", {}).get(name, entry.get(name))
            if isinstance(value, int | float):
                found[float(entry["epoch"])] = float(value)
        return found

    def outcome(self) -> dict[str, str]:
        """Progress, pace and the figures of the best package, as text."""
        losses, pace = self.curve("loss"), self.curve("exams_per_s")
        found = {
            "epochs": f"{self.epoch} of {self.epochs}",
            "last loss": text_of(losses[max(losses)]) if losses else "",
            "exams per s": text_of(pace[max(pace)]) if pace else "",
            "best epoch": "" if self.best_epoch is None else str(self.best_epoch),
        }
        return found | {name: text_of(v) for name, v in self.best.items() if v is None or isinstance(v, int | float)}


def read_run(folder: Path) -> RunRecord:
    """The record of a run folder.

    Raises
    ------
    TrainingError
        If it is no run folder.
    """
    run = RunFolder(folder, writes=False)
    config = run.config()
    try:
        settings, epochs = deciding(config), int(config["recipe"]["epochs"])
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{folder / 'config.json'}: not that of a run of fit") from error
    manifest = read_json(run.best / MANIFEST) if (run.best / MANIFEST).exists() else {}
    return RunRecord(
        name=folder.name or str(folder),
        settings=settings,
        epochs=epochs,
        entries=run.entries(),
        best_epoch=manifest.get("training", {}).get("epochs"),
        best=manifest.get("figures", {}).get("validation", {}),
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Several runs; names that occur twice get a number."""

    runs: tuple[RunRecord, ...]

    @property
    def names(self) -> list[str]:
        """A name for each run, all different."""
        plain = [run.name for run in self.runs]
        return [
            f"{name} ({plain[: i + 1].count(name)})" if plain.count(name) > 1 else name for i, name in enumerate(plain)
        ]

    def differences(self) -> dict[str, list[Any]]:
        """Setting -> its value in each run, for the settings that are not the same in all of them."""
        names = dict.fromkeys(name for run in self.runs for name in run.settings)
        values = {name: [run.settings.get(name) for run in self.runs] for name in names}
        return {name: row for name, row in values.items() if any(value != row[0] for value in row)}

    def sections(self) -> Iterator[Section]:
        """Outcomes, differing settings and curves."""
        yield self._table("Outcomes: the best validation of each run", [run.outcome() for run in self.runs])
        differing = self.differences()
        rows = [(name, *map(shown, values)) for name, values in differing.items()]
        lines = [] if rows else ["All settings that decide what is learned are the same."]
        yield Section(heading="Settings that differ", lines=lines, columns=("", *self.names), rows=rows, text=True)

    def curves(self) -> Section:
        """A plot of each figure by epoch; a line in their place where matplotlib is missing."""
        found = {name: {n: run.curve(name) for n, run in zip(self.names, self.runs, strict=True)} for name in CURVES}
        drawn = {name: {n: c for n, c in curves.items() if c} for name, curves in found.items() if any(curves.values())}
        try:
            plots = [epochs_plot(curves, name) for name, curves in drawn.items()]
        except NoPlotsError as error:
            return Section(heading="Curves", lines=[str(error)])
        return Section(heading="Curves by epoch", pictures=list(map(as_source, plots)))

    def _table(self, heading: str, columns: Sequence[Mapping[str, str]]) -> Section:
        names = dict.fromkeys(name for column in columns for name in column)
        rows = [(name, *(column.get(name, "") for column in columns)) for name in names]
        return Section(heading=heading, columns=("", *self.names), rows=rows)

    def text(self) -> str:
        """The tables for a terminal."""
        return as_text(f"Comparison of {len(self.runs)} runs", list(self.sections()))

    def write(self, out: Path) -> None:
        """Write ``comparison.html``, which needs no other file, and ``comparison.json``."""
        out.mkdir(parents=True, exist_ok=True)
        title = f"Comparison of {len(self.runs)} runs"
        (out / "comparison.html").write_text(render(title, [*self.sections(), self.curves()]), encoding="utf-8")
        content = {
            "runs": {
                name: {"best_epoch": run.best_epoch, "epoch": run.epoch, "epochs": run.epochs, "figures": run.best}
                for name, run in zip(self.names, self.runs, strict=True)
            },
            "differences": {name: dict(zip(self.names, row, strict=True)) for name, row in self.differences().items()},
        }
        (out / "comparison.json").write_text(strict_json.dumps(content, indent=1) + "\n", encoding="utf-8")
