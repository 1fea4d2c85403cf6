"""Where the figures of a run are shown beside its log: TensorBoard, and MLflow where it is asked for."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from trainer.training.run_folder import TrainingError

_console = Console(stderr=True)


class Board(Protocol):
    """Takes named numbers by step."""

    def show(self, values: Mapping[str, float], step: int) -> None:
        """Add the numbers of a step."""

    def close(self) -> None:
        """The run has ended."""


class TensorBoard:
    """TensorBoard's event files in ``folder``; what an earlier process wrote from ``step`` on counts no more."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step)

    def show(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """See `Board`."""
        self._writer.close()


class MLflow:
    """A run of an MLflow experiment (extra ``mlflow``), on the server that ``MLFLOW_TRACKING_URI`` names, or where MLflow
    keeps its runs without that.

    ``mlflow.json`` in the run folder keeps its id, so that a resumed training goes on in the same run. A server that is
    away never ends a training: that is said once, and the log has everything.

    Raises
    ------
    TrainingError
        If MLflow is not installed, or the experiment cannot be opened at the beginning.
    """

    def __init__(self, folder: Path, experiment: str, settings: Mapping[str, Any]) -> None:
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric
        except ImportError as error:
            raise TrainingError("--mlflow needs MLflow: pip install 'spineone-node[mlflow]'") from error
        self._metric, self._failed = Metric, False
        where = os.environ.get("MLFLOW_TRACKING_URI")
        try:
            self._client = MlflowClient(where) if where else MlflowClient()
            self.run_id = self._open(folder / "mlflow.json", experiment, settings)
        except Exception as error:  # whatever a server or its client raises
            raise TrainingError(f"--mlflow {experiment}: the experiment cannot be opened ({error})") from error

    def _open(self, path: Path, experiment: str, settings: Mapping[str, Any]) -> str:
        with suppress(OSError, ValueError, KeyError):
            return str(json.loads(path.read_text(encoding="utf-8"))["run_id"])
        known = self._client.get_experiment_by_name(experiment)
        place = self._client.create_experiment(experiment) if known is None else known.experiment_id
        run_id = str(self._client.create_run(place, run_name=path.parent.name).info.run_id)
        for name, value in settings.items():
            self._client.log_param(run_id, name, str(value)[:500])
        path.write_text(json.dumps({"experiment": experiment, "run_id": run_id}) + "\n", encoding="utf-8")
        return run_id

    def show(self, values: Mapping[str, float], step: int) -> None:
        """See `Board`."""
        now = int(time.time() * 1000)
        self._try(
            lambda: self._client.log_batch(self.run_id, [self._metric(n, v, now, step) for n, v in values.items()])
        )

    def close(self) -> None:
        """See `Board`."""
        self._try(lambda: self._client.set_terminated(self.run_id))

    def _try(self, call: Any) -> None:
        try:
            call()
        except Exception as error:  # whatever a server or its client raises
            if not self._failed:
                _console.print(f"MLflow does not answer ({error}); the training goes on", highlight=False, markup=False)
            self._failed = True


class Boards:
    """All boards of a run; none before they are opened."""

    def __init__(self) -> None:
        self._boards: list[Board] = []

    def open(self, folder: Path, step: int, experiment: str, settings: Mapping[str, Any]) -> None:
        """Open TensorBoard, if it is installed (extra ``train``), and MLflow, if an experiment is named.

        Raises
        ------
        TrainingError
            As `MLflow`.
        """
        with suppress(ImportError):
            self._boards.append(TensorBoard(folder / "tensorboard", step))
        if experiment:
            self._boards.append(MLflow(folder, experiment, settings))

    def show(self, entry: Mapping[str, Any]) -> None:
        """Show the numbers of a log entry."""
        for board in self._boards:
            board.show(numbers(entry), int(entry["step"]))

    def close(self) -> None:
        """The run has ended."""
        for board in self._boards:
            board.close()


def numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a log entry by board name, ``training/...`` and ``validation/...``; finite ones only."""
    groups = {"training": entry, "validation": entry.get("validation", {})}
    return {
        f"{prefix}/{name}": float(value)
        for prefix, figures in groups.items()
        for name, value in figures.items()
        if isinstance(value, int | float) and name not in ("step", "epoch") and float("-inf") < value < float("inf")
    }
