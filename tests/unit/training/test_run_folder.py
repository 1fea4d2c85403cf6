"""What surrounds the training loop: run folder, micro-batches, several processes, precision, workers, ImageNet weights."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spineone_core.anatomy import Structure
from spineone_core.network.config import NetworkConfig
from spineone_core.network.rows import distinct_rows, seven_categories
from tests.fakes.tiny_runs import shrunk, start, tiny_data, tiny_recipe
from trainer.training.keypoint_task import KeypointObjective
from trainer.training.pretrained import load_backbone
from trainer.training.run import Run
from trainer.training.run_folder import RunFolder, TrainingError

ROOT = Path(__file__).resolve().parents[3]


def losses_of(run: Run, steps: int) -> list[dict[str, float]]:
    batches = run.batches()
    return [{name: float(term) for name, term in run.train_step(batches).items()} for _ in range(steps)]


# ---------------------------------------------------------------- several processes, micro-batches, workers, precision


def test_two_processes__give_the_losses_of_one_that_accumulates(tmp_path: Path) -> None:
    """The same micro-batches: two gloo processes with one each, one process with both."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.fakes.tiny_runs", str(tmp_path)]
    both = [
        subprocess.Popen(command, env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}, cwd=ROOT)
        for rank in range(2)
    ]
    alone = start(tiny_recipe(), tiny_data(2), tmp_path / "alone", micro_batches=2)
    alone.fit(validate_every=100)
    assert [process.wait(120) for process in both] == [0, 0]

    def validated(name: str) -> dict[str, float]:
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        (figures,) = [line["validation"] for line in lines if "validation" in line]
        return {key: value for key, value in figures.items() if value is not None}

    def logged(name: str) -> list[list[float]]:
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        return [[v for k, v in line.items() if k.startswith(("disc", "vertebra"))] for line in lines if "loss" in line]

    expected = logged("alone")
    assert len(expected) == tiny_recipe().epochs
    for got, wanted in zip(logged("both"), expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-4)
    # Each process has read one of the two exams; the figures are those of both.
    assert validated("both")["exams"] == validated("alone")["exams"] == 2
    assert validated("both") == pytest.approx(validated("alone"), abs=0.05)
    together = torch.load(tmp_path / "both" / "last.pt", weights_only=True)["network"]
    for name, value in alone.network.named_parameters():
        assert torch.allclose(together[name], value, atol=1e-4), name


def test_micro_batches__must_share_the_batch_evenly(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="batch of 2 cannot be shared by 1 processes with 3"):
        start(tiny_recipe(), tiny_data(), tmp_path, micro_batches=3).batches()


def test_workers__change_no_sample(tmp_path: Path) -> None:
    alone, helped = (losses_of(start(tiny_recipe(), tiny_data(), tmp_path, workers=n), 2) for n in (0, 2))
    assert alone == helped


def test_bf16__gives_nearly_the_same_losses(tmp_path: Path) -> None:
    exact, half = (losses_of(start(tiny_recipe(), tiny_data(), tmp_path, precision=p), 2) for p in ("fp32", "bf16"))
    assert exact != half
    assert [sum(terms.values()) for terms in half] == pytest.approx([sum(t.values()) for t in exact], rel=0.05)


@pytest.mark.parametrize("row", [*distinct_rows(), seven_categories()], ids=lambda row: row.name)
def test_row__every_parameter_takes_part(row: Any) -> None:
    """Distributed training waits for the gradient of each parameter."""
    recipe = shrunk(row)
    objective = KeypointObjective(recipe)
    batch = {
        "images": torch.randn(2, recipe.network.slices, 64, 64),
        "points": torch.full((2, 10, 2), 32.0),
        "labels": torch.ones(2, 10, dtype=torch.long),
    }
    for structure in Structure:
        batch[f"{structure}_points"] = torch.full((2, 5, 2), 32.0, dtype=torch.float64)
        batch[f"{structure}_classes"] = torch.tensor([[0, 1, 0, 1, 1]] * 2)
        batch[f"{structure}_ignored"] = torch.full((2, 1, 2), torch.nan, dtype=torch.float64)
    torch.stack(list(objective(batch, recipe.association_from < 1).values())).sum().backward()
    assert [name for name, p in objective.named_parameters() if p.grad is None] == []


# ---------------------------------------------------------------- the folder


def test_folder__holds_config_log_board_checkpoint_and_package(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    start(tiny_recipe(), tiny_data(), tmp_path).fit(validate_every=1)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["seed"] == 0
    assert config["recipe"]["network"]["backbone"] == "resnet18"
    assert config["code"]["torch"] == torch.__version__
    assert len(config["data_sha256"]) == 64
    assert {path.name for path in tmp_path.iterdir()} >= {"log.jsonl", "last.pt", "best", "tensorboard"}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    steps = [event.step for event in board.Scalars("training/loss")]
    assert steps == [2, 4]
    assert "validation/pck6" in board.Tags()["scalars"]


def test_checkpoint__full_disk_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.begin({})
    folder.save({"step": 1})

    def full(state: object, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"last\.pt cannot be written .*No space left.*the one before stays"):
        folder.save({"step": 2})
    assert folder.load(torch.device("cpu")) == {"step": 1}
    assert not list(tmp_path.glob("*.part"))


def test_checkpoint__that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match=r"last\.pt cannot be read"):
        start(tiny_recipe(), tiny_data(), tmp_path).fit(resume=True)


def test_resume__log_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    """Killed after an epoch's line was written and before its checkpoint, and in the middle of a line."""
    recipe = tiny_recipe()
    broken = start(recipe, tiny_data(), tmp_path)
    broken.open_folder()
    batches = broken.batches()
    broken.train_epoch(batches)
    broken.save()
    broken.train_epoch(batches)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"epoch": 1, "st')
    start(recipe, tiny_data(), tmp_path).fit(resume=True)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [2, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 5}, "recipe.epochs: 2, now 5"),
        ({"network": None}, "recipe.network.feature_channels: 16, now 24"),
    ],
)
def test_resume__refuses_another_recipe(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    recipe = tiny_recipe()
    first = start(recipe, tiny_data(), tmp_path)
    first.open_folder()
    first.save()
    if "network" in change:
        change = {"network": replace(recipe.network, feature_channels=24)}
    with pytest.raises(TrainingError, match=message):
        start(replace(recipe, **change), tiny_data(), tmp_path).fit(resume=True)


def test_run__without_validation_exams_keeps_the_last_weights(tmp_path: Path) -> None:
    data = replace(tiny_data(), validation=[])
    start(tiny_recipe(), data, tmp_path).fit(validate_every=1)
    assert (tmp_path / "best" / "weights.safetensors").exists()


# ---------------------------------------------------------------- ImageNet weights


def resnet18_file(path: Path, **changes: Any) -> Path:
    """A file as torchvision saves ResNet18: three colours, a classifier."""
    network = KeypointObjective(
        replace(tiny_recipe(), network=NetworkConfig(backbone="resnet18", slices=1, **changes))
    ).network
    state = {n: torch.randn_like(v.float()) for n, v in network.backbone.trunk.state_dict().items()}  # type: ignore[union-attr]
    state["conv1.weight"] = torch.randn(state["conv1.weight"].shape[0], 3, 7, 7)
    torch.save(state | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, path)
    return path


def test_backbone__loads_torchvisions_file_and_treats_slices_as_grey(tmp_path: Path) -> None:
    path = resnet18_file(tmp_path / "resnet18.pth", width=8)
    recipe = tiny_recipe()
    network = KeypointObjective(replace(recipe, network=replace(recipe.network, slices=1, width=8))).network
    load_backbone(network, path)
    saved = torch.load(path, weights_only=True)
    trunk = network.backbone.trunk  # type: ignore[union-attr]
    grey = torch.randn(1, 1, 32, 32)
    wanted = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), saved["conv1.weight"], stride=2, padding=3)
    assert torch.allclose(trunk.conv1(grey), wanted, atol=1e-4)
    assert torch.equal(trunk.layer2[0].conv1.weight, saved["layer2.0.conv1.weight"])


def test_backbone__names_what_does_not_fit(tmp_path: Path) -> None:
    path = resnet18_file(tmp_path / "resnet18.pth", width=16)
    network = KeypointObjective(tiny_recipe()).network
    with pytest.raises(TrainingError, match=r"does not fit this detector's backbone: .*size mismatch"):
        load_backbone(network, path)
    with pytest.raises(TrainingError, match="cannot be read"):
        load_backbone(network, tmp_path / "missing.pth")
    with pytest.raises(TrainingError, match="no ResNet or DenseNet"):
        load_backbone(torch.nn.Linear(1, 1), path)
