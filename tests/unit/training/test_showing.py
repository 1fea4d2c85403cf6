"""How a run is shown and how it uses the machine: progress, boards, workers, batch normalisation over processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.fakes.tiny_runs import start, tiny_data, tiny_recipe
from trainer.training import options, ranks
from trainer.training.boards import numbers
from trainer.training.options import workers_of
from trainer.training.out_of_memory import is_out_of_memory, next_micro_batches
from trainer.training.progress import Pace, Shown, said
from trainer.training.ranks import Ranks
from trainer.training.run_folder import TrainingError

# ---------------------------------------------------------------- progress


def test_pace__is_that_of_the_latest_steps() -> None:
    pace = Pace(8, torch.device("cpu"))
    for seconds in [100.0] * 10 + [2.0] * 50:
        pace.add(seconds)
    assert pace.figures(90) == {"exams_per_s": 4.0, "minutes_left": 3.0}


def test_pace__names_the_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**29)
    pace = Pace(8, torch.device("cuda", 0))
    pace.add(1.0)
    assert pace.figures(0)["gpu_memory_gib"] == 1.5
    assert said(0.5, pace.figures(0)) == "loss 0.500, 8 exams/s, 0 min left, 1.5 GiB GPU memory"


def test_shown__a_line_every_half_minute_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 29.0, 31.0, 31.0, 40.0])
    with Shown("tiny", 0, 100, clock=lambda: next(times)) as shown:
        for step in (1, 2, 3):
            shown.step(step, 0.25, {"exams_per_s": 4.0, "minutes_left": 3.0})
    line = capsys.readouterr().out
    assert json.loads(line) == {"step": 2, "of": 100, "loss": 0.25, "exams_per_s": 4.0, "minutes_left": 3.0}


def test_shown__a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with Shown("tiny", 0, 100) as shown:
        shown.step(7, 0.25, {"exams_per_s": 4.0, "minutes_left": 3.0})
        shown.line("{}")
    printed = capsys.readouterr().out
    assert "7/100" in printed
    assert "loss 0.250, 4 exams/s, 3 min left" in printed
    assert "{}" not in printed


# ---------------------------------------------------------------- boards


def test_numbers__of_an_entry_by_group() -> None:
    entry = {
        "step": 4,
        "epoch": 2,
        "loss": 1.5,
        "note": "x",
        "validation": {"pck6": 0.5, "mean_error_mm": float("nan")},
    }
    assert numbers(entry) == {"training/loss": 1.5, "validation/pck6": 0.5}


class Client:
    """A tracking server in memory, with the calls of mlflow's client that the trainer uses."""

    runs: dict[str, dict[str, Any]] = {}  # noqa: RUF012
    away = False

    def __init__(self, uri: str | None = None) -> None:
        self.uri = uri

    def get_experiment_by_name(self, name: str) -> Any:
        return None

    def create_experiment(self, name: str) -> str:
        return f"id of {name}"

    def create_run(self, experiment_id: str, run_name: str | None = None) -> Any:
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = {"experiment": experiment_id, "params": {}, "metrics": [], "ended": False}
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_param(self, run_id: str, key: str, value: Any) -> None:
        self.runs[run_id]["params"][key] = value

    def log_batch(self, run_id: str, metrics: Any) -> None:
        if self.away:
            raise ConnectionError("no route to host")
        self.runs[run_id]["metrics"] += metrics

    def set_terminated(self, run_id: str) -> None:
        self.runs[run_id]["ended"] = True


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    module, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    module.MlflowClient = Client  # type: ignore[attr-defined]
    entities.Metric = lambda key, value, timestamp, step: (key, value, step)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    monkeypatch.setattr(Client, "runs", {})
    return Client


def test_mlflow__gets_settings_and_figures_and_one_run_for_a_resumed_training(
    tmp_path: Path, mlflow: type[Client]
) -> None:
    first = start(tiny_recipe(), tiny_data(), tmp_path, mlflow="spines")
    first.open_folder()
    first.train_epoch(first.batches())
    first.save()
    start(tiny_recipe(), tiny_data(), tmp_path, mlflow="spines").fit(validate_every=2, resume=True)
    (run,) = mlflow.runs.values()
    assert run["experiment"] == "id of spines"
    assert run["params"]["recipe.network.backbone"] == "resnet18"
    assert run["ended"]
    assert [step for name, _, step in run["metrics"] if name == "training/loss"] == [2, 4]
    assert any(name == "validation/pck6" for name, _, _ in run["metrics"])


def test_mlflow__that_does_not_answer_ends_no_training(
    tmp_path: Path, mlflow: type[Client], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mlflow, "away", True)
    run = start(tiny_recipe(), tiny_data(), tmp_path, mlflow="spines")
    run.fit(validate_every=2)
    assert run.step == run.steps
    assert capsys.readouterr().err.count("MLflow does not answer") == 1


def test_mlflow__that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrainingError, match=r"--mlflow needs MLflow: pip install 'spineone-node\[mlflow\]'"):
        start(tiny_recipe(), tiny_data(), tmp_path, mlflow="spines").fit()


def test_mlflow__the_real_one_keeps_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow import MlflowClient

    where = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", where)
    start(tiny_recipe(), tiny_data(), tmp_path / "run", mlflow="spines").fit(validate_every=2)
    run_id = json.loads((tmp_path / "run" / "mlflow.json").read_text())["run_id"]
    history = MlflowClient(where).get_metric_history(run_id, "training/loss")
    assert [metric.step for metric in history] == [2, 4]


# ---------------------------------------------------------------- machine


@pytest.mark.parametrize(("cores", "processes", "workers"), [(1, 1, 0), (2, 1, 1), (16, 4, 3), (64, 1, 8), (2, 4, 0)])
def test_workers__auto_leaves_a_core_to_each_training_process(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr(options, "_cores", lambda: cores)
    monkeypatch.setattr(options, "_shared_bytes", lambda: 2**40)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert workers_of("auto") == workers
    assert workers_of("3") == 3
    with pytest.raises(ValueError, match="workers 'many'; allowed: auto"):
        workers_of("many")


@pytest.mark.parametrize(("free", "workers"), [(2**26, 0), (2**30, 2), (2**40, 7)])
def test_workers__auto_asks_for_no_more_shared_memory_than_there_is(
    monkeypatch: pytest.MonkeyPatch, free: int, workers: int
) -> None:
    """Docker gives a container 64 MiB unless told otherwise."""
    monkeypatch.setattr(options, "_cores", lambda: 8)
    monkeypatch.setattr(options, "_shared_bytes", lambda: free)
    assert workers_of("auto") == workers


class OnGpu(nn.Sequential):
    """A module that says it lies on a GPU."""

    def parameters(self, recurse: bool = True) -> Any:
        return iter([SimpleNamespace(device=torch.device("cuda", 0))])


def test_sync_bn__normalises_over_all_processes_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "DistributedDataParallel", lambda module: module)
    pair, alone = Ranks(0, 2), Ranks()
    assert isinstance(pair.wrap(OnGpu(nn.BatchNorm2d(4)), sync_bn=True)[0], nn.SyncBatchNorm)  # type: ignore[index]
    assert isinstance(pair.wrap(OnGpu(nn.BatchNorm2d(4)))[0], nn.BatchNorm2d)  # type: ignore[index]
    assert isinstance(alone.wrap(nn.Sequential(nn.BatchNorm2d(4)), sync_bn=True)[0], nn.BatchNorm2d)  # type: ignore[index]
    with pytest.raises(TrainingError, match="--sync-bn needs GPUs"):
        pair.wrap(nn.Sequential(nn.BatchNorm2d(4)), sync_bn=True)


def test_memory__that_is_lacking_is_recognised() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."))
    assert not is_out_of_memory(RuntimeError("size mismatch"))


@pytest.mark.parametrize(
    ("batch", "world", "count", "more"), [(8, 1, 1, 2), (8, 2, 2, 4), (6, 1, 2, 3), (8, 1, 8, None)]
)
def test_micro_batches__the_next_number_that_fits(batch: int, world: int, count: int, more: int | None) -> None:
    assert next_micro_batches(batch, world, count) == more
