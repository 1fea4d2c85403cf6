"""Reader of CT volumes with vertebra centroids: landmark files, masks, axes, and what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from trainer.cli.app import app
from trainer.datasets.exam import Skipped
from trainer.volumes import csi2014
from trainer.volumes.exam import VolumeExam
from trainer.volumes.inspection import volume_suspicions

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (extra: train)")

SPACING = (0.5, 0.5, 2.0)
# x, y, z in voxels.
VERTEBRAE = {"T12": (20, 24, 26), "L1": (21, 22, 14), "L2": (22, 24, 3)}


def ct(direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> sitk.Image:
    """Air with a bright cube at each vertebra; (40, 48, 30) voxels."""
    voxels = np.full((30, 48, 40), -1000, np.int16)
    for x, y, z in VERTEBRAE.values():
        voxels[z - 1 : z + 2, y - 8 : y + 9, x - 8 : x + 9] = 400
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(SPACING)
    image.SetOrigin((-10.0, 5.0, 100.0))
    image.SetDirection(direction)
    return image


def write_case(folder: Path, image: sitk.Image, suffix: str = ".nii.gz") -> Path:
    folder.mkdir(parents=True)
    sitk.WriteImage(image, str(folder / f"{folder.name}{suffix}"))
    return folder


def write_landmarks(case: Path, extra: str = "") -> None:
    lines = ["# label name x y z"]
    for number, (name, voxel) in enumerate(VERTEBRAE.items(), start=1):
        x, y, z = np.array(voxel) * SPACING
        lines.append(f"{number}\t{name}_center\t{x}\t{y}\t{z}")
    (case / f"{case.name}.lml").write_text("\n".join([*lines, extra]) + "\n")


def only(folder: Path) -> VolumeExam:
    (exam,) = csi2014.read(folder)
    assert isinstance(exam, VolumeExam), exam
    return exam


def reason(folder: Path) -> str:
    (skipped,) = csi2014.read(folder)
    assert isinstance(skipped, Skipped)
    assert skipped.exam_id == "patient0001/4511471/4511471"
    return skipped.why


@pytest.mark.parametrize(
    "direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, 1, 0)]
)
def test_landmarks__stay_on_their_vertebra_however_the_file_is_turned(
    tmp_path: Path, direction: tuple[float, ...]
) -> None:
    write_landmarks(write_case(tmp_path / "spine-1/patient0001/4511471", ct(direction)))
    exam = only(tmp_path)
    assert (exam.patient, exam.part, exam.names) == ("patient0001", "train", tuple(VERTEBRAE))
    for x, y, z in np.round(exam.points).astype(int):
        assert exam.voxels[z, y, x] == 400
    steps = np.linalg.norm(np.diff(exam.points * exam.spacing_mm, axis=0), axis=1)
    assert steps == pytest.approx([24.03, 22.03], abs=0.02)
    if direction[0] == 1:
        assert np.allclose(exam.points, list(VERTEBRAE.values()), atol=1e-4)


@pytest.mark.parametrize("suffix", [".mhd", ".mha"])
def test_mask__centroid_of_each_label(tmp_path: Path, suffix: str) -> None:
    case = write_case(tmp_path / "test/case7", ct(), suffix)
    labels = np.zeros((30, 48, 40), np.uint8)
    for label, (x, y, z) in enumerate(VERTEBRAE.values(), start=20):
        labels[z - 1 : z + 2, y - 8 : y + 9, x - 8 : x + 9] = label
    labels[0, 0, 0] = 9  # a slip of the pen
    mask = sitk.GetImageFromArray(labels)
    mask.CopyInformation(ct())
    sitk.WriteImage(mask, str(case / f"case7_label{suffix}"))
    exam = only(tmp_path)
    assert (exam.part, exam.names) == ("test", ("label 20", "label 21", "label 22"))
    assert np.allclose(exam.points, list(VERTEBRAE.values()))


def test_landmark_outside__is_left_out_and_named(tmp_path: Path) -> None:
    write_landmarks(write_case(tmp_path / "patient0001/4511471", ct()), extra="4 L3_center 10 10 900")
    exam = only(tmp_path)
    assert exam.notes == ("left out, outside the volume: L3",)
    assert "L3" not in exam.names


def test_faults__are_named_with_the_scan(tmp_path: Path) -> None:
    case = write_case(tmp_path / "patient0001/4511471", ct())
    assert "neither 4511471.lml nor a mask" in reason(tmp_path)
    write_landmarks(case, extra="4 L3_center 10")
    assert "line 5: not 'number name x y z'" in reason(tmp_path)
    write_landmarks(case, extra="4 L1_center 1 1 1")
    assert "L1 is annotated twice" in reason(tmp_path)
    (case / "4511471.nii.gz").write_bytes(b"no volume")
    assert "4511471.nii.gz cannot be read" in reason(tmp_path)


def test_empty_folder__is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no CT volume"):
        next(csi2014.read(tmp_path))


def test_inspection__counts_scans_and_shows_them(tmp_path: Path) -> None:
    write_landmarks(write_case(tmp_path / "data/patient0001/4511471", ct()), extra="4 L3_center 10 10 900")
    write_case(tmp_path / "data/test/case7", ct())
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "data"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "1 scans (1 train) of 1 patients, 3 vertebrae; 1 left out" in result.stdout
    assert "left out, outside the volume: L3" in result.stdout
    assert "neither case7.lml nor a mask" in result.stdout
    report = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert report["geometry"]["mm, z"]["median"] == 2.0
    assert (tmp_path / "out" / "examples.png").stat().st_size > 500


def test_suspicions__distances_and_values(tmp_path: Path) -> None:
    write_landmarks(write_case(tmp_path / "patient0001/4511471", ct()))
    exam = only(tmp_path)
    assert list(volume_suspicions(exam)) == []
    near = replace(exam, points=exam.points * [1, 1, 0.1])
    assert "two neighbouring vertebrae are 3 mm apart; usual are 8 to 55" in list(volume_suspicions(near))
    assert list(volume_suspicions(replace(exam, voxels=np.abs(exam.voxels) / 10))) == [
        "values from 40 to 100 are not those of CT in Hounsfield units"
    ]
