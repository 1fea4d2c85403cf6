"""The shipped network as ONNX and as a program of torch.export: the same findings, whoever runs it."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from typer.testing import CliRunner

from spineone_core import cli
from spineone_core.detection.detector import Detector
from spineone_core.detection.model_package import ModelPackageError, load_onnx_package, load_package
from spineone_core.network import exported
from spineone_core.network.build import build_network
from spineone_core.network.exported import ONNX, TORCH_EXPORT, ExportError, OnnxNetwork, check_onnx, export
from spineone_core.network.rows import distinct_rows
from spineone_core.network.spineone import SpineOne
from spineone_core.phantom.dicom import write_exam
from spineone_core.phantom.exam import make_phantom
from trainer.cli import app

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped package with both exports, as ``spineone-train package`` writes it."""
    folder = tmp_path_factory.mktemp("exported") / "package"
    words = ["spineone-train", "package", "--model", "default", "--onnx", "--torch-export", "--out", str(folder)]
    with patch("sys.argv", words), pytest.raises(SystemExit) as stopped:
        app.main()
    assert not stopped.value.code
    return folder


@pytest.mark.minutes
def test_onnx__gives_the_same_findings(package: Path) -> None:
    volume = make_phantom(7).volume
    own = Detector(load_package(package), device="cpu").detect(volume)
    other = Detector(load_onnx_package(package), device="cpu").detect(volume)
    assert own.analysed
    assert (other.status, other.model, len(other.findings)) == (own.status, own.model, 10)
    for a, b in zip(own.findings, other.findings, strict=True):
        assert (b.structure, b.level, b.grade, b.decided) == (a.structure, a.level, a.grade, a.decided)
        assert (b.x, b.y) == pytest.approx((a.x, a.y), abs=0.05)
        assert b.probability == pytest.approx(a.probability, abs=1e-3)
        assert b.localisation_confidence == pytest.approx(a.localisation_confidence, abs=1e-3)


@pytest.mark.minutes
def test_torch_export__gives_the_same_maps(package: Path) -> None:
    network = load_package(package).network
    program = torch.export.load(package / TORCH_EXPORT).module()
    noise = torch.randn(3, 1, 96, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        own = [maps for output in network(noise).values() for maps in output[:2]]
        for a, b in zip(own, program(noise), strict=True):
            assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.minutes
def test_detect__runs_the_packages_onnx_model(package: Path, tmp_path: Path) -> None:
    write_exam(tmp_path / "study", 3, slices=3, companions=False)
    runner = CliRunner()
    own, other = (
        json.loads(runner.invoke(cli.app, ["detect", str(tmp_path), "--json", "--model", str(package), *more]).stdout)
        for more in ([], ["--onnx"])
    )
    assert own["model"] == other["model"]
    assert [f["level"] for f in own["findings"]] == [f["level"] for f in other["findings"]] != []
    with pytest.raises(ModelPackageError, match=r"network\.onnx: not there; spineone-train package --onnx"):
        load_onnx_package("default")


@pytest.mark.minutes
def test_package__whose_export_was_changed_is_refused(package: Path, tmp_path: Path) -> None:
    for file in package.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    load_package(tmp_path, released=True)
    content = bytearray((tmp_path / ONNX).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / ONNX).write_bytes(content)
    with pytest.raises(ModelPackageError, match=r"network\.onnx: SHA-256"):
        load_package(tmp_path)


@pytest.mark.minutes
def test_check__finds_a_model_of_other_weights(package: Path) -> None:
    network = load_package(package).network
    content = (package / ONNX).read_bytes()
    assert check_onnx(network, content) <= exported.TOLERANCE
    torch.nn.init.normal_(network.branches["disc"].heatmap.weight)  # type: ignore[union-attr, arg-type]
    with pytest.raises(ExportError, match="differs from the network by"):
        check_onnx(network, content)
    with pytest.raises(ExportError, match="cannot read the model"):
        OnnxNetwork(b"no model", network.config)


def test_two_stage__is_not_exported() -> None:
    config = next(row.network for row in distinct_rows() if row.network.two_stage)
    with torch.device("meta"):
        network = build_network(config)
    assert isinstance(network, SpineOne)
    with pytest.raises(ExportError, match="two-stage detector cannot be exported"):
        export(network)
