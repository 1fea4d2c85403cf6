"""The command that measures a GPU, in its small form on a CPU; its checks on a GPU too, where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import checks, speed
from benchmarks.gpu.checks import CHECKS, CPU, distance
from benchmarks.gpu.sizes import full, small
from benchmarks.gpu.table import Row, Table
from spineone_core.detection.keypoints import FoundKeypoints, find_keypoints
from spineone_core.detection.model_package import load_package
from spineone_core.phantom.exam import make_phantom

ROOT = Path(__file__).resolve().parents[3]
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
# A machine without these, which the node and the trainer need.
BARE = """
import sys

class Bare:
    def find_spec(self, name, path=None, target=None):
        if name in ("pydicom", "pynetdicom", "rich", "typer", "sqlalchemy", "starlette", "matplotlib", "SimpleITK", "skimage"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Bare())
from benchmarks.gpu.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_small_form__runs_where_there_is_no_pydicom(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        BARE,
    ]
    command += ["--small", "--device", "cpu", "--workers", "0", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    parts = {row["part"] for row in rows}
    assert parts == {
        "checks", "findings", "paper's detector", "shipped model", "stages", "attention", "training",
    }  # fmt: skip
    measured = [row for row in rows if row["value"] is not None]
    assert [row["name"] for row in rows if row not in measured] == ["batch 2, 16 x 16 x 16, forward and backward"]
    assert all(row["passed"] for row in rows if row["part"] in ("checks", "findings"))
    text = (tmp_path / "gpu.md").read_text()
    assert "torch tells of CUDA only" in text
    assert "| not measured |" in text


def test_command__a_check_that_does_not_hold_and_a_part_that_cannot_run_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> list[Row]:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(checks, "check_rows", lambda device: [Row(part="checks", name="n", value=2, passed=False)])
    for name in ("findings_rows", "compiled_rows"):
        monkeypatch.setattr(checks, name, lambda *_: [])
    monkeypatch.setattr(speed, "paper_rows", broken)
    for name in ("shipped_rows", "stages_rows", "attention_rows", "training_rows"):
        monkeypatch.setattr(speed, name, lambda *_: [])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    assert command.main(["--small", "--device", "cpu", "--out", str(tmp_path)]) == 1
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["note"] for row in rows] == ["", "failed: RuntimeError('no kernel image')"]
    assert command.main(["--small", "--device", "cpu", "--out", str(tmp_path), "--minutes", "-1"]) == 0
    assert "no time was left" in (tmp_path / "gpu.md").read_text()


def test_command__says_which_wheels_to_carry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "missing", lambda: ["scipy", "safetensors"])
    assert command.main(["--out", str(tmp_path)]) == 2
    assert "carry the wheels: pip download scipy safetensors" in capsys.readouterr().out


def test_table__a_missed_target_of_speed_is_no_fault(tmp_path: Path) -> None:
    table = Table(tmp_path, CPU)
    table.add([Row(part="stages", name="n", value=3.0, unit="x", target="10", passed=False)])
    assert table.failed == []
    assert "| stages | n | 3 x | 10 (missed) |  |" in table.markdown()


def test_full_form__is_the_papers() -> None:
    sizes = full()
    assert (sizes.paper.architecture, sizes.paper.backbone, sizes.paper.attention_stride) == (
        "deeplabv3plus", "resnet101", 4,
    )  # fmt: skip
    assert (sizes.side, sizes.attention[0]) == (640, 64)
    assert sizes.two_stage.two_stage
    assert small().two_stage.width == small().paper.width


def test_distance__sees_a_moved_keypoint_another_probability_and_a_refusal() -> None:
    volume, package = make_phantom(0, slices=3).volume, load_package("default")
    (found,) = find_keypoints([volume], package.network, package.manifest, CPU)
    assert isinstance(found, FoundKeypoints)
    first, *others = found.keypoints
    moved = replace(first, x=first.x + 2, probability=abs(first.probability - 0.25))
    apart = distance([found], [replace(found, keypoints=(moved, *others))], [volume])
    assert apart.mm == pytest.approx(2 * volume.pixel_spacing[1])
    assert apart.probability == pytest.approx(abs(first.probability - moved.probability))
    refused = find_keypoints([replace(volume, voxels=volume.voxels * 0)], package.network, package.manifest, CPU)
    assert distance([found], refused, [volume]).mm == float("inf")


@GPU
@pytest.mark.parametrize("name", CHECKS)
def test_gpu__computes_what_the_cpu_does(name: str) -> None:
    measure, most = CHECKS[name]
    assert measure(torch.device("cuda")) <= most


@GPU
def test_gpu__findings_are_those_of_the_cpu() -> None:
    assert all(row.passed for row in checks.findings_rows(torch.device("cuda"), 2))
