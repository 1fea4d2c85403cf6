"""Losses that are read now and then, and checkpoints within an epoch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.fakes.tiny_runs import start, tiny_data, tiny_recipe
from trainer.training.run_folder import TrainingError
from trainer.training.step_losses import READ_EVERY, StepLosses


def terms(value: float, device: str) -> dict[str, torch.Tensor]:
    return {"disc": torch.tensor(value, device=device), "vertebra": torch.tensor(1.0, device=device)}


def test_losses__on_a_cpu_are_read_at_each_step_and_elsewhere_after_sixteen() -> None:
    assert StepLosses().add(terms(1.0, "cpu"))
    elsewhere = StepLosses()  # "meta" is a device whose numbers cannot be read: reading one too early would fail
    assert [elsewhere.add(terms(1.0, "meta")) for _ in range(READ_EVERY)] == [False] * (READ_EVERY - 1) + [True]


def test_losses__that_are_not_finite_name_the_first_such_step() -> None:
    losses = StepLosses()
    for value in (1.0, 2.0, float("nan"), float("inf")):
        losses.add(terms(value, "cpu"))
    with pytest.raises(TrainingError, match="not finite at step 12"):
        losses.read(14)


def test_losses__means_are_over_the_epoch_also_across_a_checkpoint() -> None:
    losses = StepLosses()
    losses.add(terms(1.0, "cpu"))
    assert losses.read(1) == {"disc": 1.0, "vertebra": 1.0}
    resumed = StepLosses.of_state(json.loads(json.dumps(losses.state())))
    resumed.add(terms(4.0, "cpu"))
    assert resumed.read(2) == {"disc": 4.0, "vertebra": 1.0}
    assert resumed.means() == {"disc": 2.5, "vertebra": 1.0}


def test_run__stops_where_the_loss_is_not_finite_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    run = start(replace(tiny_recipe(), learning_rate=1e30, epochs=4), tiny_data(), tmp_path)
    with pytest.raises(TrainingError, match="the loss is not finite at step"):
        run.fit(validate_every=100)
    kept = torch.load(tmp_path / "last.pt", weights_only=True)
    assert all(torch.isfinite(row).all() for row in map(torch.tensor, kept["losses"]["read"]))


def test_resume__within_an_epoch_gives_the_same_log_and_weights(tmp_path: Path) -> None:
    recipe = replace(tiny_recipe(), average_decay=0.9)

    def logged(name: str) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        kept = ("step", "loss", "disc_heatmap", "vertebra_offset", "lr")
        return [{key: line[key] for key in kept} for line in lines if "loss" in line]

    unbroken = start(recipe, tiny_data(), tmp_path / "a")
    unbroken.fit(validate_every=2)
    broken = start(recipe, tiny_data(), tmp_path / "b", checkpoint_every_s=0)
    broken.open_folder()
    batches = broken.batches()
    broken.train_epoch(batches)
    broken.train_step(batches)  # the first of two steps; its checkpoint is written at once
    resumed = start(recipe, tiny_data(), tmp_path / "b")
    resumed.fit(validate_every=2, resume=True)
    assert logged("a") == logged("b")
    for one, other in zip(
        unbroken.evaluated_network().state_dict().values(),
        resumed.evaluated_network().state_dict().values(),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_checkpoints__are_written_by_time_and_not_by_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = {}
    for name, seconds in (("each", 0.0), ("seldom", 1e9)):
        run, steps = start(tiny_recipe(), replace(tiny_data(), validation=[]), tmp_path / name), []
        run.options = replace(run.options, checkpoint_every_s=seconds)
        save = run.save
        monkeypatch.setattr(run, "save", lambda run=run, save=save, steps=steps: (steps.append(run.step), save()))
        run.fit(validate_every=100)
        written[name] = steps
    # The first step is kept at once, so that the folder is known to hold a run; the last one always.
    assert written == {"each": [1, 2, 3, 4], "seldom": [1, 4]}


def test_optimiser__goes_on_from_a_checkpoint_of_an_older_version(tmp_path: Path) -> None:
    """Checkpoints up to version 0.4 were written between epochs, by an AdamW that was not fused."""
    run = start(tiny_recipe(), tiny_data(), tmp_path)
    run.open_folder()
    run.train_epoch(run.batches())
    run.save()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["losses"]
    for group in state["optimiser"]["param_groups"]:
        group["fused"] = None
    torch.save(state, tmp_path / "last.pt")
    resumed = start(tiny_recipe(), tiny_data(), tmp_path)
    resumed.fit(resume=True)
    assert resumed.step == 4
    assert all(group["fused"] for group in resumed.learner.optimiser.param_groups)
