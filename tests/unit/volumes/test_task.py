"""Table V: CT volumes to the network and back, training of the 3-D variant, its package and figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spineone_core.detection.model_package import ModelPackageError, load_package
from spineone_core.network.config import ConfigError
from trainer.cli import app, fit
from trainer.recipes import find_recipe, table5
from trainer.training.options import RunOptions
from trainer.training.run import Run
from trainer.volumes import ct_phantoms
from trainer.volumes.evaluation import VolumeOutcome, evaluate_volumes, volume_figures
from trainer.volumes.network import VolumeConfig
from trainer.volumes.package import is_volume_package, load_volume_package
from trainer.volumes.preprocessing import VolumePreprocessing, prepare_volume
from trainer.volumes.recipe import VolumeRecipe
from trainer.volumes.task import ReducedVolume, VolumeTask, cut, reduce_exam


def small() -> VolumeRecipe:
    return replace(table5(), network=VolumeConfig(width=4), crop=(32, 32, 32), epochs=2, warmup_steps=0)


# ---------------------------------------------------------------- preprocessing


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 2.0), (1.1, 1.1, 1.25), (0.35, 0.5, 3.0)])
def test_prepare__a_bright_voxel_stays_where_it_was(spacing: tuple[float, float, float]) -> None:
    """There and back within half a voxel of the coarser grid."""
    voxels = np.full((40, 60, 80), -1000.0, np.float32)
    voxels[18:22, 28:34, 48:54] = 1200
    centre = np.array([[50.5, 30.5, 19.5]])  # x, y, z
    prepared = prepare_volume(voxels, spacing, VolumePreprocessing(), (8, 32, 32))
    assert all(n % m == 0 for n, m in zip(prepared.voxels.shape, (8, 32, 32), strict=True))
    assert prepared.voxels.min() == -1
    weight = (prepared.voxels + 1).numpy()
    z, y, x = (float((axis * weight).sum() / weight.sum()) for axis in np.indices(weight.shape))
    coarse = np.maximum(spacing, VolumePreprocessing().spacing_mm)
    assert np.abs((prepared.to_network(centre)[0] - [x, y, z]) * VolumePreprocessing().spacing_mm / coarse).max() < 0.5
    assert np.allclose(prepared.to_source(prepared.to_network(centre)), centre)


@pytest.mark.parametrize("voxels", [np.zeros((8, 8, 8), np.float32), np.full((8, 8, 8), np.nan, np.float32)])
def test_prepare__refuses_blank_volumes(voxels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="blank or holds values"):
        prepare_volume(voxels, (1, 1, 1), VolumePreprocessing(), (8, 8, 8))


def test_config__names_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="three positive"):
        VolumePreprocessing(spacing_mm=(1.0, 0.0, 1.0))
    with pytest.raises(ConfigError, match="lower and a higher"):
        VolumePreprocessing(window=(100, -100))
    with pytest.raises(ValueError, match="multiples of 8"):
        replace(table5(), crop=(30, 32, 32))


# ---------------------------------------------------------------- samples


def test_reduce__points_lie_in_the_middle_of_their_vertebrae() -> None:
    exam = ct_phantoms.make_volume(3)
    reduced = reduce_exam(exam, table5())
    columns, lines, slices = np.round(reduced.points).astype(int).T
    bodies = reduced.voxels[slices, lines, columns].astype(float)
    assert bodies.min() > reduced.voxels.mean() + 30
    assert reduced.voxels.dtype == np.uint8
    assert np.array_equal(ct_phantoms.make_volume(3).voxels, exam.voxels)


def test_cut__holds_a_vertebra_and_keeps_points_on_their_voxels() -> None:
    voxels = np.zeros((40, 20, 30), np.uint8)
    points = np.array([[5.0, 6.0, 7.0], [20.0, 12.0, 33.0]])
    for x, y, z in points.astype(int):
        voxels[z, y, x] = 255
    for seed in range(20):
        crop, moved = cut(ReducedVolume(voxels, points), (16, 32, 16), np.random.default_rng(seed))
        assert crop.shape == (16, 32, 16)
        inside = [p for p in moved.astype(int) if (p >= 0).all() and (p < [16, 32, 16]).all()]
        assert inside
        assert all(crop[z, y, x] == 255 for x, y, z in inside)


# ---------------------------------------------------------------- training, package, figures


def test_training__learns_resumes_bit_identical_and_is_packaged(tmp_path: Path) -> None:
    exams = list(ct_phantoms.read(range(2)))
    task = VolumeTask(small(), exams)
    unbroken = Run(task, tmp_path / "a", seed=0, options=RunOptions(device="cpu"))
    unbroken.fit()
    broken = Run(task, tmp_path / "b", seed=0, options=RunOptions(device="cpu"))
    broken.open_folder()
    broken.train_step(broken.batches())
    broken.save()
    resumed = Run(task, tmp_path / "b", seed=0, options=RunOptions(device="cpu"))
    resumed.fit(resume=True)
    for one, other in zip(unbroken.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(one, other)

    assert is_volume_package(tmp_path / "a" / "best")
    manifest, network = load_volume_package(tmp_path / "a" / "best")
    assert manifest.network == small().network
    assert manifest.training["scans"] == 2
    (outcome,) = evaluate_volumes(network, manifest, exams[:1], torch.device("cpu"))
    assert outcome.truth.shape == (len(exams[0].points), 3)
    with pytest.raises(ModelPackageError, match="format 'volume-1'; this version reads 1"):
        load_package(tmp_path / "a" / "best")  # the node reads MRI
    (tmp_path / "a" / "best" / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelPackageError, match="damaged"):
        load_volume_package(tmp_path / "a" / "best")


def test_figures__count_hits_one_to_one() -> None:
    truth = np.array([[0.0, 0, 0], [0, 0, 30], [0, 0, 60]])
    outcome = VolumeOutcome("e", "p", truth, truth[:2] + np.array([0.0, 10.0, 0.0]))
    figures = volume_figures([outcome, VolumeOutcome("f", "q", truth, np.zeros((0, 3)))])
    assert figures == {
        "scans": 2,
        "vertebrae": 6,
        "detection_rate_20mm": pytest.approx(2 / 6),
        "detection_rate_6mm": 0.0,
        "strays": 0,
    }


def test_recipe__table5_is_named_and_trains_and_evaluates_with_the_same_commands(tmp_path: Path, monkeypatch) -> None:
    assert find_recipe("table5") == table5()
    monkeypatch.setattr(fit, "find_recipe", lambda name: small())
    run = tmp_path / "run"
    arguments = ["fit", "--recipe", "table5", "--phantoms", "2", "--epochs", "1", "--device", "cpu", "--out", str(run)]
    assert CliRunner().invoke(app.app, arguments).exit_code == 0
    said = CliRunner().invoke(
        app.app, ["evaluate", "--model", str(run / "best"), "--phantoms", "1", "--json", "--device", "cpu"]
    )
    assert json.loads(said.stdout)["figures"]["scans"] == 1
