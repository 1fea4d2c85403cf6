"""Model packages: written, verified, refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spineone_core.detection.calibration import Calibration
from spineone_core.detection.model_package import (
    CARD,
    MANIFEST,
    WEIGHTS,
    Manifest,
    ModelPackageError,
    load_package,
    save_package,
)
from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.spineone import SpineOne
from tests.unit.network.test_spineone import TINY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifest = Manifest(
        name="tiny",
        version="1.2",
        network=TINY,
        preprocessing=PreprocessingConfig(slices=3),
        calibration={"disc": Calibration(slope=2.0)},
    )
    torch.manual_seed(0)
    save_package(tmp_path / "model", SpineOne(TINY), manifest)
    return tmp_path / "model"


def test_package__round_trip(folder: Path) -> None:
    package = load_package(folder)
    assert (package.identity.name, package.identity.version) == ("tiny", "1.2")
    assert package.manifest.calibration["disc"].slope == 2.0
    torch.manual_seed(0)
    original = SpineOne(TINY).state_dict()
    for name, value in package.network.state_dict().items():
        assert torch.allclose(value.float(), original[name].float(), rtol=1e-2, atol=1e-3), name
    assert load_package(folder).identity.digest == package.identity.digest


def test_digest__changes_with_weights_and_manifest(folder: Path, tmp_path: Path) -> None:
    package = load_package(folder)
    with torch.no_grad():
        package.network.backbone.trunk.conv1.weight += 1
    assert save_package(tmp_path / "other", package.network, package.manifest).digest != package.identity.digest


def damage(folder: Path, kind: str) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    if kind == "missing":
        (folder / WEIGHTS).unlink()
    elif kind == "half copied":
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:1000])
    elif kind == "changed":
        whole = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif kind == "no json":
        (folder / MANIFEST).write_text("{")
    elif kind == "format":
        (folder / MANIFEST).write_text(json.dumps({**manifest, "format": 99}))
    elif kind == "architecture":
        manifest["network"]["width"] = 16
        (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "cannot be read"),
        ("half copied", "SHA-256"),
        ("changed", "SHA-256"),
        ("no json", "not a model manifest"),
        ("format", "format 99"),
        ("architecture", "does not fit"),
    ],
)
def test_damaged_package__is_refused_with_the_reason(folder: Path, kind: str, message: str) -> None:
    damage(folder, kind)
    with pytest.raises(ModelPackageError, match=message):
        load_package(folder)


def test_missing_folder__is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelPackageError, match="nowhere"):
        load_package(tmp_path / "nowhere")


def test_released_package__names_all_that_is_missing(folder: Path) -> None:
    load_package(folder)
    with pytest.raises(
        ModelPackageError, match="licence, training data, figures, model card missing; spineone-train package"
    ):
        load_package(folder, released=True)


def released(folder: Path) -> Path:
    package = load_package(folder)
    manifest = replace(package.manifest, licence="CC0", training={"data": "phantoms"}, figures={"pck6": 0.5})
    save_package(folder, package.network, manifest, write_card=lambda m, sha256: f"# {m.name} {sha256}\n")
    return folder


def test_released_package__has_a_card_that_the_digest_covers(folder: Path) -> None:
    package = load_package(released(folder), released=True)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert (folder / CARD).read_text() == f"# tiny {manifest['weights']['sha256']}\n"
    assert package.manifest.licence == "CC0"
    (folder / CARD).write_text("# praise\n")
    with pytest.raises(ModelPackageError, match=r"model-card\.md: SHA-256"):
        load_package(folder)
    (folder / CARD).unlink()
    with pytest.raises(ModelPackageError, match=r"model-card\.md cannot be read"):
        load_package(folder)


def test_shipped_package__is_a_released_one() -> None:
    package = load_package("default", released=True)
    assert package.manifest.training["data"]
