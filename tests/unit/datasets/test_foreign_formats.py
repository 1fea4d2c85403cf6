"""Anyone's data goes in: tables of points, COCO keypoints, 3D Slicer markups, label maps; studies by their UIDs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from spineone_core.anatomy import READING_ORDER, VERTEBRAE, Grade
from tests.fakes.spine_files import (
    COLUMNS,
    ROWS,
    level_point,
    sdid_entry,
    sdid_point,
    write_annotations,
    write_sdid,
    write_series,
    write_slice,
)
from trainer.curation.importing import import_exams, is_dicom
from trainer.datasets import formats, label_maps, spider
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.names import grade_named, level_named
from trainer.datasets.sdid_points import read_points
from trainer.datasets.sdid_tc import SHARED_NOTE
from trainer.datasets.splits import SplitError, own_parts
from trainer.datasets.tables import DatasetError

TEN = [landmark.level for landmark in READING_ORDER]
SPACING = (1.0, 1.0, 4.0)  # posterior, inferior, right
DIRECTION = (0, 0, -1, 1, 0, 0, 0, -1, 0)


def single(items: Any) -> Exam:
    (exam,) = items
    assert isinstance(exam, Exam), exam
    return exam


def why(items: Any) -> str:
    (skipped,) = items
    assert isinstance(skipped, Skipped), skipped
    return skipped.why


def write_volume(path: Path, voxels: Any) -> Any:
    """(slices, rows, columns) as a sagittal volume; returns the SimpleITK image."""
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (extra: train)")
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetDirection(DIRECTION)
    image.SetSpacing(SPACING)
    image.SetOrigin((11.0, -30.0, 70.0))
    sitk.WriteImage(image, str(path))
    return image


def picture(slices: int = 5) -> Any:
    return (np.arange(slices * ROWS * COLUMNS) % 977).astype(np.int16).reshape(slices, ROWS, COLUMNS)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("L1", "L1"),
        ("vertebrae_L1", "L1"),
        ("disc_L5_S", "L5-S1"),
        ("L5/S1", "L5-S1"),
        ("L5S1", "L5-S1"),
        ("disc_T12_L1", "T12-L1"),
        ("l4-l5", "L4-L5"),
        ("L4-S1", None),
        ("sacrum", None),
        ("disc_T11_T12", None),
        ("vertebrae_T12", None),
    ],
)
def test_names__levels_as_others_write_them(name: str, level: str | None) -> None:
    assert level_named(name) == level


def test_names__an_unknown_class_is_unknown_and_never_degenerative() -> None:
    notes: list[str] = []
    assert grade_named("Degenerative", "L1", notes) is Grade.DEGENERATIVE
    assert grade_named("v2,v3", "L1-L2", notes) is Grade.DEGENERATIVE
    assert grade_named("n", "L1", notes) is Grade.NORMAL
    assert grade_named("", "L1", notes) is None
    assert notes == []
    assert grade_named("fine", "L1", notes) is None
    assert notes == ["L1: 'fine' is no class: unknown"]


@pytest.mark.parametrize("code", ["V1", "normal", "v1,V2"])
def test_sdid__an_unknown_code_is_unknown_with_a_note(code: str) -> None:
    found = read_points([sdid_point(level, code if level == "L3-L4" else "v1") for level in ("T12-L1", *TEN)])
    assert found.grades["L3-L4"] is None
    assert found.grades["L4-L5"] is Grade.NORMAL
    assert any("L3-L4" in note and "its class is unknown" in note for note in found.notes)


# ---------------------------------------------------------------- studies by their UIDs


def deep_sdid(folder: Path, patient: str = "") -> list[Any]:
    """Three studies one level deeper, ``train/studyN``, with the annotations in the folder above."""
    entries = []
    for study in ("study1", "study2", "study3"):
        for k in range(3):
            changes = {"PatientID": patient} if patient else {}
            write_slice(folder / "train" / study / f"image{k}.dcm", study, "t2", 4.0 * k, **changes)
        entries.append(
            sdid_entry(study, write_slice(folder / "train" / study / "image1.dcm", study, "t2", 4.0, **changes))
        )
    write_annotations(folder, entries)
    return entries


def test_sdid__studies_one_level_deeper_are_all_there(tmp_path: Path) -> None:
    deep_sdid(tmp_path / "lumbar")
    exams = list(formats.read(str(tmp_path / "lumbar")))
    assert [e.exam_id for e in exams] == [f"lumbar/train/study{n}" for n in (1, 2, 3)]
    assert all(isinstance(e, Exam) for e in exams)


def test_sdid__annotations_that_lie_elsewhere_are_given(tmp_path: Path) -> None:
    deep_sdid(tmp_path / "lumbar")
    place = str(tmp_path / "lumbar" / "train")
    with pytest.raises(DatasetError, match="--annotations FILE"):
        formats.read(place)
    exams = list(formats.read(place, annotations=tmp_path / "lumbar" / "annotation.json"))
    assert [e.exam_id for e in exams] == [f"train/study{n}" for n in (1, 2, 3)]


def test_sdid__studies_that_share_a_folder_are_told_apart(tmp_path: Path) -> None:
    entries = []
    for n, study in enumerate(("a", "b")):
        uids = [write_slice(tmp_path / "all" / f"{study}{k}.dcm", study, "t2", 4.0 * k) for k in range(3)]
        entries.append(sdid_entry(study, uids[n]))
    write_annotations(tmp_path, entries)
    names = {e.exam_id for e in formats.read(str(tmp_path)) if isinstance(e, Exam)}
    assert len(names) == 2


def test_sdid__one_patient_id_for_all_falls_back_to_the_study_and_says_so(tmp_path: Path) -> None:
    deep_sdid(tmp_path / "shared", patient="ANONYMOUS")
    exams = [e for e in formats.read(str(tmp_path / "shared")) if isinstance(e, Exam)]
    assert len({e.patient for e in exams}) == 3
    assert all(SHARED_NOTE in e.notes for e in exams)
    assert not any("ANONYMOUS" in note for e in exams for note in e.notes)
    write_sdid(tmp_path / "own", ["study1", "study2", "study3"])
    exams = [e for e in formats.read(str(tmp_path / "own")) if isinstance(e, Exam)]
    assert [e.patient for e in exams] == ["P-study1", "P-study2", "P-study3"]


# ---------------------------------------------------------------- splits that data sets bring along


def test_spider__its_own_subset_is_a_split(tmp_path: Path) -> None:
    write_volume(tmp_path / "images" / "7_t2.mha", picture())
    write_volume(tmp_path / "masks" / "7_t2.mha", spine(spider.LEVEL_OF_LABEL))
    (tmp_path / "radiological_gradings.csv").write_text(
        "Patient,IVD label,Modic,UP endplate,LOW endplate,Disc herniation,Disc bulging,Pfirrman grade\n7,1,0,0,0,0,0,2\n"
    )
    (tmp_path / "overview.csv").write_text("new_file_name;subset\n7_t2;training\n")
    exam = single(formats.read(f"spider:{tmp_path}"))
    assert own_parts([exam]) == {"SPIDER-7": "train"}
    with pytest.raises(SplitError, match="name no parts"):
        own_parts([])


# ---------------------------------------------------------------- tables and COCO


def write_table(folder: Path, image: str, extra: Mapping[str, str] | None = None, classes: str = "normal") -> None:
    extra = dict(extra or {})
    lines = [",".join(["image", "level", "x", "y", "class", *extra])]
    for level in TEN:
        x, y = level_point(level)
        lines.append(",".join([image, level.replace("-", "/"), str(x), str(y), classes, *extra.values()]))
    (folder / "points.csv").write_text("\n".join(lines))


def test_table__of_points_on_a_dicom_slice(tmp_path: Path) -> None:
    write_series(tmp_path / "a", "study1")
    write_table(tmp_path, "a/image1.dcm")
    exam = single(formats.read(str(tmp_path)))
    assert (exam.slice_index, exam.patient, exam.manufacturer) == (1, "P-study1", "Scanner Works")
    assert exam.points == {level: level_point(level) for level in TEN}
    assert set(exam.grades.values()) == {Grade.NORMAL}
    assert exam.notes == ()


def test_table__of_points_on_a_picture_needs_its_spacing(tmp_path: Path) -> None:
    Image.fromarray((picture(1)[0] % 256).astype(np.uint8)).save(tmp_path / "spine.png")
    write_table(tmp_path, "spine.png", classes="perhaps")
    assert "needs spacing_mm" in why(formats.read(str(tmp_path)))
    write_table(tmp_path, "spine.png", {"spacing_mm": "0.8", "patient": "p1"}, classes="perhaps")
    exam = single(formats.read(str(tmp_path)))
    assert exam.volume.pixel_spacing == (0.8, 0.8)
    assert exam.patient == "p1"
    assert set(exam.grades.values()) == {None}
    assert "L1: 'perhaps' is no class: unknown" in exam.notes
    assert not is_dicom(tmp_path / "spine.png")
    done = import_exams(lambda known: [exam], tmp_path / "out")
    assert done.written == 1
    assert single(formats.read(str(tmp_path / "out"))).points["L3"] == pytest.approx(level_point("L3"))


@pytest.mark.parametrize("name", ["gone.dcm", "../outside.dcm"])
def test_table__an_image_that_is_not_there_is_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    write_slice(tmp_path / "outside.dcm", "study1", "t2", 0.0)
    write_table(tmp_path / "data", name)
    assert why(formats.read(str(tmp_path / "data"))) == f"{name} is not there"


def test_coco__keypoints_named_after_levels(tmp_path: Path) -> None:
    write_series(tmp_path / "a", "study1")
    values = [v for level in TEN for v in (*level_point(level), 0 if level == "L1" else 2)]
    content = {
        "images": [{"id": 4, "file_name": "a/image1.dcm"}, {"id": 5, "file_name": "a/image2.dcm"}],
        "categories": [{"id": 1, "name": "spine", "keypoints": TEN}],
        "annotations": [
            {"image_id": 4, "category_id": 1, "keypoints": values, "attributes": {"L4-L5": "degenerative"}}
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "person.json").write_text(json.dumps(content))
    exam, skipped = formats.read(str(tmp_path))
    assert isinstance(exam, Exam)
    assert exam.missing == ("L1",)
    assert exam.points["L5-S1"] == level_point("L5-S1")
    assert (exam.grades["L4-L5"], exam.grades["L3"]) == (Grade.DEGENERATIVE, None)
    assert isinstance(skipped, Skipped)
    assert skipped.why == "no keypoint"


# ---------------------------------------------------------------- 3D Slicer


def write_markups(path: Path, image: Any, system: str, slices: Mapping[str, int] | None = None) -> None:
    points = []
    for level in TEN:
        column, row = level_point(level)
        place = np.array(
            image.TransformContinuousIndexToPhysicalPoint((column, row, float((slices or {}).get(level, 2))))
        )
        if system == "RAS":
            place = place * (-1, -1, 1)
        points.append(
            {"label": level, "position": place.tolist(), "positionStatus": "defined", "description": "degenerative"}
        )
    points.append({"label": "F-12", "position": [0, 0, 0]})
    content = {"markups": [{"type": "Fiducial", "coordinateSystem": system, "controlPoints": points}]}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("system", ["LPS", "RAS"])
@pytest.mark.parametrize("end", [".nrrd", ".nii.gz"])
def test_slicer__markups_in_either_coordinate_system(tmp_path: Path, system: str, end: str) -> None:
    image = write_volume(tmp_path / f"case{end}", picture())
    write_markups(tmp_path / "case.mrk.json", image, system)
    exam = single(formats.read(str(tmp_path)))
    assert exam.slice_index == 2
    for level in TEN:
        assert exam.points[level] == pytest.approx(level_point(level), abs=1e-3)
    assert set(exam.grades.values()) == {Grade.DEGENERATIVE}
    assert exam.notes == ()


def test_slicer__points_on_other_slices_are_moved_and_said(tmp_path: Path) -> None:
    image = write_volume(tmp_path / "case.nrrd", picture())
    write_markups(tmp_path / "case.mrk.json", image, "LPS", {"L1": 4, "L2": 3})
    exam = single(formats.read(str(tmp_path)))
    assert exam.slice_index == 2
    assert exam.points["L1"] == pytest.approx(level_point("L1"), abs=1e-3)
    assert exam.notes == ("2 points lie on other slices and are moved to one along its normal",)


def test_slicer__beside_a_dicom_series_and_without_a_coordinate_system(tmp_path: Path) -> None:
    write_series(tmp_path, "study1")
    points = [
        {"label": level, "position": [4.0, -20.0 + level_point(level)[0], 100.0 - level_point(level)[1]]}
        for level in TEN
    ]
    for system, wanted in (("LPS", ""), ("IJK", "coordinate system IJK; known: LPS, RAS")):
        markup = {"coordinateSystem": system, "controlPoints": points}
        (tmp_path / "F.mrk.json").write_text(json.dumps({"markups": [markup]}))
        item = next(iter(formats.read(str(tmp_path))))
        if wanted:
            assert isinstance(item, Skipped)
            assert wanted in item.why
        else:
            assert isinstance(item, Exam)
            assert (item.slice_index, item.points["L2"]) == (1, pytest.approx(level_point("L2")))


# ---------------------------------------------------------------- label maps


def spine(numbers: Mapping[int, str]) -> Any:
    """Squares at every level on slices 1 to 3, spinous processes behind the vertebrae on slice 2; L1 is on slice 2 alone."""
    labels = np.zeros((5, ROWS, COLUMNS), np.uint8)
    for label, level in numbers.items():
        column, row = map(int, level_point(level))
        where = slice(2, 3) if level == "L1" else slice(1, 4)
        labels[where, row - 5 : row + 6, column - 6 : column + 7] = label
        if level in VERTEBRAE:
            labels[2, row + 4 : row + 10, 52:60] = label
    return labels


def nnunet(folder: Path) -> Mapping[int, str]:
    numbers = dict(enumerate(TEN, start=1))
    write_volume(folder / "imagesTr" / "case_0000.nii.gz", picture())
    write_volume(folder / "labelsTr" / "case.nii.gz", spine(numbers))
    names = {"background": 0, "sacrum": 11} | {f"part_{level}": n for n, level in numbers.items()}
    (folder / "dataset.json").write_text(json.dumps({"labels": names, "file_ending": ".nii.gz"}))
    return numbers


def totalspineseg(folder: Path) -> Mapping[int, str]:
    write_volume(folder / "input" / "case.nii.gz", picture())
    write_volume(folder / "step2_output" / "case.nii.gz", spine(label_maps.TOTALSPINESEG))
    return label_maps.TOTALSPINESEG


def spineps(folder: Path) -> Mapping[int, str]:
    write_volume(folder / "case_T2w.nii.gz", picture())
    write_volume(folder / "derivatives_seg" / "case_mod-T2w_seg-vert_msk.nii.gz", spine(label_maps.SPINEPS))
    return label_maps.SPINEPS


@pytest.mark.parametrize("write", [nnunet, totalspineseg, spineps], ids=lambda write: write.__name__)
def test_label_maps__centroids_on_the_slice_with_most_levels(tmp_path: Path, write: Any) -> None:
    write(tmp_path)
    assert formats.parse(str(tmp_path))[0] == write.__name__
    exam = single(formats.read(str(tmp_path)))
    assert exam.slice_index == 2
    for level in TEN:
        assert exam.points[level] == pytest.approx(level_point(level)), level
    assert set(exam.grades.values()) == {None}


def test_label_maps__the_published_numbers() -> None:
    """TotalSpineSeg's README; SPINEPS's, where a disc has 100 more than the vertebra above it."""
    assert {label_maps.TOTALSPINESEG[n] for n in (41, 45)} == {"L1", "L5"}
    assert [label_maps.TOTALSPINESEG[n] for n in (91, 92, 95, 100)] == ["T12-L1", "L1-L2", "L4-L5", "L5-S1"]
    assert [label_maps.SPINEPS[n] for n in (20, 24, 119, 120, 124)] == ["L1", "L5", "T12-L1", "L1-L2", "L5-S1"]


def test_label_maps__own_numbers_and_classes(tmp_path: Path) -> None:
    numbers = nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"1": "one"}}))
    with pytest.raises(DatasetError, match="no label is named after a level"):
        list(formats.read(str(tmp_path)))
    (tmp_path / "labels.json").write_text(json.dumps({str(n): level for n, level in numbers.items()}))
    (tmp_path / "classes.csv").write_text("image,level,class\ncase,L4/L5,v2\ncase,L3,normal\nother,L2,v2\n")
    exam = single(formats.read(str(tmp_path)))
    assert (exam.grades["L4-L5"], exam.grades["L3"], exam.grades["L2"]) == (Grade.DEGENERATIVE, Grade.NORMAL, None)


def test_label_maps__without_an_image_or_of_another_size_are_left_out(tmp_path: Path) -> None:
    nnunet(tmp_path)
    write_volume(tmp_path / "imagesTr" / "case_0000.nii.gz", picture(4))
    assert "the label map has" in why(formats.read(str(tmp_path)))
    (tmp_path / "imagesTr" / "case_0000.nii.gz").unlink()
    assert why(formats.read(str(tmp_path))) == "no image of that name in imagesTr"
