"""Readers of every 2-D data set, on tiny files: what they yield, and how they name what is wrong."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spineone_core.anatomy import DISCS, READING_ORDER, VERTEBRAE, Grade
from tests.fakes.spine_files import (
    level_point,
    sdid_entry,
    sdid_point,
    write_annotations,
    write_sdid,
    write_series,
    write_slice,
)
from trainer.datasets import formats, node_reviews, rsna2024, sdid_tc, spider
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.sdid_points import LEVELS
from trainer.datasets.tables import DatasetError
from trainer.datasets.volume_files import name_uid

D, N = Grade.DEGENERATIVE, Grade.NORMAL


def single(items: Any) -> Exam:
    (exam,) = items
    assert isinstance(exam, Exam), exam
    return exam


def why(items: Any) -> str:
    (skipped,) = items
    assert isinstance(skipped, Skipped), skipped
    return f"{skipped.exam_id}: {skipped.why}"


# ---------------------------------------------------------------- SDID-TC


def test_sdid__a_faultless_exam(tmp_path: Path) -> None:
    write_sdid(tmp_path / "lumbar", ["study1"])
    exam = single(sdid_tc.read(tmp_path / "lumbar"))
    assert (exam.exam_id, exam.patient, exam.subset) == ("lumbar/study1", "P-study1", "lumbar")
    assert (exam.manufacturer, exam.field_strength_t) == ("Scanner Works", 1.5)
    assert exam.notes == ()
    assert exam.slice_index == 1
    assert exam.points["L3-L4"] == level_point("L3-L4")


def test_sdid__annotations_lie_beside_the_folder_as_handed_out(tmp_path: Path) -> None:
    write_sdid(tmp_path / "lumbar_train150")
    (tmp_path / "lumbar_train150" / "annotation.json").rename(tmp_path / "lumbar_train150_annotation.json")
    assert single(formats.read(str(tmp_path / "lumbar_train150"))).exam_id == "lumbar_train150/study1"


def tiny_file(folder: Path, entries: list[Any]) -> None:
    (folder / "study1" / "image9.dcm").write_bytes(b"broken copy")


def scout_in_the_series(folder: Path, entries: list[Any]) -> None:
    write_slice(folder / "study1" / "scout.dcm", "study1", "t2", 0.0, size=(128, 128))


def duplicate_positions(folder: Path, entries: list[Any]) -> None:
    write_slice(folder / "study1" / "image9.dcm", "study1", "t2", 8.0)


def not_t2(folder: Path, entries: list[Any]) -> None:
    for k in range(3):
        write_slice(folder / "study1" / f"image{k}.dcm", "study1", "t2", 4.0 * k, SeriesDescription="T1 TSE SAG")


def only_times(folder: Path, entries: list[Any]) -> None:
    for k in range(3):
        name = folder / "study1" / f"image{k}.dcm"
        write_slice(name, "study1", "t2", 4.0 * k, SeriesDescription="SAG", EchoTime="102", RepetitionTime="3800")


def impossible_z_index(folder: Path, entries: list[Any]) -> None:
    for p in entries[0]["data"][0]["annotation"][0]["data"]["point"]:
        p["zIndex"] = 7


def two_annotators(folder: Path, entries: list[Any]) -> None:
    entries[0]["data"][0]["annotation"] *= 2


def objects_for_lists(folder: Path, entries: list[Any]) -> None:
    entries[0]["data"] = entries[0]["data"][0]
    entries[0]["data"]["annotation"] = entries[0]["data"]["annotation"][0]


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (tiny_file, "image9.dcm cannot be read (11 bytes)"),
        (scout_in_the_series, "its series mixes images: 3 of 64 x 240 are used, not 1 of 128 x 128"),
        (duplicate_positions, "1 slices at duplicate positions left out"),
        (not_t2, "by its description the annotated series is T1-weighted, not T2"),
        (only_times, "known as T2 only by its TE and TR"),
        (impossible_z_index, "zIndex 7 in a series of 3 slices"),
        (two_annotators, "2 annotations; the first is used"),
        (objects_for_lists, None),
    ],
)
def test_sdid__faults_are_noted_and_the_exam_is_used(
    tmp_path: Path, spoil: Callable[[Path, list[Any]], None], note: str | None
) -> None:
    entries = write_sdid(tmp_path)
    spoil(tmp_path, entries)
    write_annotations(tmp_path, entries)
    exam = single(sdid_tc.read(tmp_path))
    assert exam.notes == () if note is None else any(n.startswith(note) for n in exam.notes), exam.notes


def outside(folder: Path, entries: list[Any]) -> None:
    entries[0]["data"][0]["annotation"][0]["data"]["point"][3]["coord"] = [200, 74]


def no_form(folder: Path, entries: list[Any]) -> None:
    del entries[0]["data"][0]["annotation"][0]["data"]


def cut_off(folder: Path, entries: list[Any]) -> None:
    path = folder / "study1" / "image2.dcm"
    path.write_bytes(path.read_bytes()[:-5000])


def no_geometry(folder: Path, entries: list[Any]) -> None:
    write_slice(folder / "study1" / "image1.dcm", "study1", "t2", 4.0, PixelSpacing=[1.0, 0.0])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (outside, r"study1: .*L2 at \(200, 74\) lies outside the image of 64 x 240 pixels"),
        (no_form, r"study1: its annotation has not the form of SDID-TC: KeyError 'data'"),
        (cut_off, r"study1: image2.dcm: .*pixel data"),
        (no_geometry, r"study1: PixelSpacing \(1.0, 0.0\) is outside"),
    ],
)
def test_sdid__unusable_exams_are_left_out_by_name(
    tmp_path: Path, spoil: Callable[[Path, list[Any]], None], message: str
) -> None:
    entries = write_sdid(tmp_path)
    spoil(tmp_path, entries)
    write_annotations(tmp_path, entries)
    (skipped,) = sdid_tc.read(tmp_path)
    assert isinstance(skipped, Skipped)
    assert re.search(message, f"{skipped.exam_id.rpartition('/')[2]}: {skipped.why}")


def test_sdid__the_run_goes_on_past_what_is_missing(tmp_path: Path) -> None:
    good = write_sdid(tmp_path, ["study1"])
    write_series(tmp_path / "study2", "study2")
    write_annotations(tmp_path, [*good, *good, sdid_entry("gone", "1.2.3"), "nonsense"])
    exam, *skipped = sdid_tc.read(tmp_path)
    assert isinstance(exam, Exam)
    assert [s.why for s in skipped if isinstance(s, Skipped)] == [
        "annotated more than once; the first annotation is used",
        "the annotated image is not there",
        "its annotation has no 'data'",
        "no annotation",
    ]


def test_sdid__ten_points_make_an_exam_without_one_level(tmp_path: Path) -> None:
    (entry,) = write_sdid(tmp_path)
    points = [sdid_point(level) for level in LEVELS if level != "L3"]
    write_annotations(tmp_path, [sdid_entry("study1", entry["data"][0]["instanceUid"], points)])
    exam = single(sdid_tc.read(tmp_path))
    assert exam.missing == ("L3",)
    assert np.isnan(exam.point_array[4]).all()
    assert exam.grade_row[4] is None
    assert exam.notes == ("no point for L3",)


@pytest.mark.parametrize("text", ["[{", '{"a": 1}'])
def test_sdid__broken_annotations_are_one_clear_error(tmp_path: Path, text: str) -> None:
    write_sdid(tmp_path)
    (tmp_path / "annotation.json").write_text(text)
    with pytest.raises(DatasetError, match=r"annotation\.json"):
        list(sdid_tc.read(tmp_path))


# ---------------------------------------------------------------- SPIDER

SPIDER_COLUMNS = [
    "Patient",
    "IVD label",
    "Modic",
    "UP endplate",
    "LOW endplate",
    "Spondylolisthesis",
    "Disc herniation",
    "Disc narrowing",
    "Disc bulging",
    "Pfirrman grade",
]


def write_spider(folder: Path, *, mask_size: tuple[int, int, int] | None = None) -> None:
    """Patient 7, five slices of 64 x 240; bodies and discs as squares on slice 2, spinous processes behind the canal."""
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed (extra: train)")
    labels = np.zeros((5, 240, 64), np.uint8)
    from_below = {
        **{k + 1: v for k, v in enumerate(reversed(VERTEBRAE))},
        **{201 + k: v for k, v in enumerate(reversed(DISCS))},
    }
    for label, level in from_below.items():
        column, row = map(int, level_point(level))
        labels[1:4, row - 5 : row + 6, column - 6 : column + 7] = label
        if label < 100:
            labels[2, row + 4 : row + 10, 52:60] = label
    labels[1:4, 10:230, 42:48] = 100
    labels[2, 10:230, 40] = 100
    for name, voxels in (("images", np.arange(5 * 240 * 64, dtype=np.int16).reshape(5, 240, 64)), ("masks", labels)):
        (folder / name).mkdir(parents=True)
        image = sitk.GetImageFromArray(voxels)
        # x towards posterior, y towards inferior, z towards right: as sagittal images are stored.
        image.SetDirection((0, 0, -1, 1, 0, 0, 0, -1, 0))
        image.SetSpacing((1.0, 1.0, 4.0))
        if name == "masks" and mask_size:
            image = sitk.RegionOfInterest(image, mask_size, (0, 0, 0))
        sitk.WriteImage(image, str(folder / name / "7_t2.mha"))
    rows = [[7, ivd, 0, 0, 0, 0, 0, 0, 0, 2] for ivd in (1, 3, 4, 5)]
    rows[1][4] = 1  # lower endplate of L3-L4: L4's upper one
    rows[2][8] = 1  # bulging L2-L3
    rows.append([7, 2, 0, 0, 0, 0, 0, 0, 0, 4])
    with (folder / "radiological_gradings.csv").open("w", newline="") as file:
        csv.writer(file).writerows([SPIDER_COLUMNS, *rows])
    (folder / "overview.csv").write_text("new_file_name;Manufacturer;MagneticFieldStrength\n7_t2;SIEMENS;1.5\n")


def test_spider__centroids_of_bodies_and_discs_with_classes(tmp_path: Path) -> None:
    write_spider(tmp_path)
    exam = single(formats.read(str(tmp_path)))
    assert (exam.exam_id, exam.patient, exam.subset) == ("spider/7_t2", "SPIDER-7", "spider-t2")
    assert (exam.manufacturer, exam.field_strength_t) == ("SIEMENS", 1.5)
    assert exam.slice_index == 2
    for landmark in READING_ORDER:
        assert exam.points[landmark.level] == pytest.approx(level_point(landmark.level)), landmark.level
    assert {level: exam.grades[level] for level in DISCS} == {
        "L1-L2": N,
        "L2-L3": D,
        "L3-L4": N,
        "L4-L5": D,
        "L5-S1": N,
    }
    assert [exam.grades[level] for level in VERTEBRAE] == [N, N, N, D, N]
    assert exam.raw["L4-L5"] == "Pfirrmann 4.0"
    assert np.allclose(exam.volume.normal, [-1, 0, 0])
    assert (np.diff(exam.volume.positions) > 0).all()
    assert exam.notes == ()


def test_spider__faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no N_t2\.mha"):
        list(spider.read(tmp_path))
    write_spider(tmp_path / "size", mask_size=(64, 200, 5))
    assert (
        why(spider.read(tmp_path / "size")) == "spider/7_t2: the mask has (64, 200, 5) voxels, the image (64, 240, 5)"
    )
    write_spider(tmp_path / "gone")
    (tmp_path / "gone" / "masks" / "7_t2.mha").unlink()
    assert why(spider.read(tmp_path / "gone")) == "spider/7_t2: 7_t2.mha is not there"
    (tmp_path / "gone" / "radiological_gradings.csv").write_text("Patient,Modic\n")
    with pytest.raises(DatasetError, match=r"no column .*Disc bulging"):
        list(spider.read(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("pfirrmann", "bulging", "grade", "strict"),
    [("2", "0", N, N), ("3", "0", D, N), ("4", "0", D, D), ("2", "1", D, N), ("", "0", None, None), ("", "1", D, None)],
)
def test_spider__disc_classes(pfirrmann: str, bulging: str, grade: Grade | None, strict: Grade | None) -> None:
    row = {"Disc herniation": "0", "Disc bulging": bulging, "Pfirrman grade": pfirrmann}
    assert spider.disc_grade(row) is grade
    assert spider.disc_grade(row, strict=True) is strict


# ---------------------------------------------------------------- RSNA 2024


def write_rsna(folder: Path) -> None:
    """Study 4003253 with points on two slices, study 5 without coordinates, study 6 without sagittal T2."""
    for k in range(3):
        write_slice(folder / f"train_images/4003253/70/{k + 1}.dcm", "4003253", "70", 4.0 * k)
    (folder / "train.csv").write_text(
        "study_id,spinal_canal_stenosis_l1_l2,spinal_canal_stenosis_l5_s1\n4003253,Normal/Mild,Severe\n5,,\n6,,\n"
    )
    described = ["4003253,70,Sagittal T2/STIR", "4003253,71,Sagittal T1", "5,80,Sagittal T2/STIR", "6,90,Axial T2"]
    (folder / "train_series_descriptions.csv").write_text(
        "\n".join(["study_id,series_id,series_description", *described])
    )
    rows = [
        f"4003253,70,{3 if level == 'L5/S1' else 2},Spinal Canal Stenosis,{level},44.5,{level_point(level.replace('/', '-'))[1]}"
        for level in ("L1/L2", "L2/L3", "L3/L4", "L5/S1")
    ]
    rows.append("4003253,71,2,Left Neural Foraminal Narrowing,L4/L5,1,1")
    (folder / "train_label_coordinates.csv").write_text(
        "\n".join(["study_id,series_id,instance_number,condition,level,x,y", *rows])
    )


def test_rsna__points_of_the_canal_say_levels_only(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    exam, *skipped = formats.read(str(tmp_path))
    assert isinstance(exam, Exam)
    assert (exam.exam_id, exam.patient, exam.centroids) == ("rsna2024/4003253/70", "RSNA-4003253", False)
    assert exam.slice_index == 1
    assert exam.points["L5-S1"] == pytest.approx((44.5, level_point("L5-S1")[1]))
    assert exam.missing == ("L1", "L2", "L3", "L4", "L4-L5", "L5")
    assert exam.raw["L5-S1"] == "canal stenosis: Severe"
    assert exam.notes == ("no point for L4-L5",)
    assert [(s.exam_id, s.why) for s in skipped if isinstance(s, Skipped)] == [
        ("rsna2024/5", "no coordinates on its sagittal T2"),
        ("rsna2024/6", "no sagittal T2 series"),
    ]


def test_rsna__faults_are_named(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    for path in (tmp_path / "train_images/4003253/70").iterdir():
        path.unlink()
    first, *_ = rsna2024.read(tmp_path)
    assert isinstance(first, Skipped)
    assert first.why == "no image in train_images/4003253/70: not there"
    (tmp_path / "train.csv").unlink()
    with pytest.raises(DatasetError, match=r"train\.csv"):
        list(rsna2024.read(tmp_path))


# ---------------------------------------------------------------- reviews of the node


def review(study: str, instance: str, **changes: Any) -> dict[str, Any]:
    points = [
        {
            "structure": landmark.structure.value,
            "level": landmark.level,
            "x": level_point(landmark.level)[0],
            "y": level_point(landmark.level)[1],
            "class": "degenerative" if landmark.level == "L4-L5" else "normal",
            "source": "model" if landmark.level != "L4-L5" else "reviewer",
        }
        for landmark in READING_ORDER
    ]
    return {
        "format": "spineone-review",
        "version": 1,
        "patient": "a1b2",
        "study_uid": name_uid(study),
        "series_uid": name_uid(study, "t2"),
        "sop_instance_uid": instance,
        "verdict": "corrected",
        "points": points,
        **changes,
    }


def write_review(folder: Path, **changes: Any) -> None:
    instances = write_series(folder, "one")
    (folder / "review.json").write_text(json.dumps(review("one", instances[1], **changes)))


def test_reviews__a_corrected_study(tmp_path: Path) -> None:
    write_review(tmp_path / "export" / "one")
    exam = single(formats.read(str(tmp_path / "export")))
    assert (exam.exam_id, exam.patient, exam.slice_index) == ("export/one", "a1b2", 1)
    assert exam.grades["L4-L5"] is D
    assert exam.points["L5"] == level_point("L5")
    assert exam.notes == ("9 of 10 points are the model's own, confirmed but not moved",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"verdict": "rejected", "reason": "wrong levels"}, "rejected: wrong levels"),
        ({"verdict": "perhaps"}, "verdict 'perhaps'; allowed"),
        ({"version": 2}, "not of format spineone-review, version 1"),
        ({"sop_instance_uid": "1.2.3"}, "the reviewed image is not there"),
        ({"points": [{"structure": "disc", "level": "L6"}]}, "'L6' is not a disc level"),
    ],
)
def test_reviews__what_cannot_be_used_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_review(tmp_path / "export" / "one", **changes)
    assert message in why(node_reviews.read(tmp_path / "export"))


# ---------------------------------------------------------------- formats


def test_formats__prefix_and_errors(tmp_path: Path) -> None:
    write_sdid(tmp_path)
    assert formats.parse(f"sdid_tc:{tmp_path}") == ("sdid_tc", tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        formats.parse(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="none of the formats"):
        formats.parse(str(tmp_path / "empty"))
    with pytest.raises(DatasetError, match="CT volumes"):
        formats.read(f"csi2014:{tmp_path}")
