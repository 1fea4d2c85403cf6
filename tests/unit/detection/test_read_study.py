"""Whole studies with the shipped model: stations, misleading names, and a damaged series, from the files to the findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from spineone_core.detection.detector import Detector
from spineone_core.detection.withholding import WITHHELD, without_classes
from spineone_core.findings import Detection, Reason
from spineone_core.phantom.dicom import WrittenExam, write_exam

Change = Callable[[Dataset], None]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load("default", device="cpu")


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> WrittenExam:
    return write_exam(tmp_path_factory.mktemp("exam"), 1, slices=7, companions=False)


def series(exam: WrittenExam, folder: Path, number: int, change: Change) -> list[Path]:
    """The exam's series once more, as another one, with changed headers."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, file in enumerate(exam.files["t2"]):
        dataset = pydicom.dcmread(file)
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.SeriesNumber, dataset.SeriesInstanceUID = number, generate_uid(entropy_srcs=[f"s{number}"])
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[f"s{number}i{index}"])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        change(dataset)
        paths.append(folder / f"s{number}i{index}.dcm")
        dataset.save_as(paths[-1])
    return paths


def station(name: str, body_part: str, up_mm: float) -> Change:
    """Another station: the picture upside down stands for it."""

    def change(dataset: Dataset) -> None:
        dataset.SeriesDescription = dataset.ProtocolName = name
        dataset.BodyPartExamined = body_part
        x, y, z = map(float, dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y, round(z + up_mm, 4)]
        if up_mm:
            dataset.PixelData = dataset.pixel_array[::-1].tobytes()

    return change


def test_of_three_unnamed_stations_the_lumbar_one_is_read(
    detector: Detector, exam: WrittenExam, tmp_path: Path
) -> None:
    heights = ((4, 0.0), (5, 240.0), (6, 480.0))
    files = [series(exam, tmp_path, number, station("t2_tse_sag", "SPINE", up)) for number, up in heights]
    reading = detector.read_study([tmp_path])
    assert reading.detection.analysed
    assert reading.detection.series_uid == str(pydicom.dcmread(files[0][0]).SeriesInstanceUID)


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("SAG FSE", "L-SPINE T1 T2 STIR DWI"),
    ],
)
def test_a_good_series_under_a_misleading_name_is_read(
    detector: Detector, exam: WrittenExam, tmp_path: Path, name: str, protocol: str
) -> None:
    def rename(dataset: Dataset) -> None:
        dataset.SeriesDescription, dataset.ProtocolName = name, protocol

    series(exam, tmp_path, 4, rename)
    assert detector.read_study([tmp_path]).detection.analysed


def test_fat_suppressed__levels_are_named_but_no_class_is_called(
    detector: Detector, exam: WrittenExam, tmp_path: Path
) -> None:
    def rename(dataset: Dataset) -> None:
        dataset.SeriesDescription = dataset.ProtocolName = "T2 TSE FS SAG"

    series(exam, tmp_path, 4, rename)
    detection = detector.read_study([tmp_path]).detection
    assert detection.analysed
    assert not any(f.decided or f.pfirrmann or f.signs for f in detection.findings)
    assert WITHHELD in detection.warnings
    plain = detector.read_study(exam.files["t2"]).detection
    assert [(f.x, f.y, f.probability) for f in plain.findings] == [
        (f.x, f.y, f.probability) for f in detection.findings
    ]
    assert any(f.decided for f in plain.findings)
    assert WITHHELD not in plain.warnings


def test_without_classes__a_refusal_stays_as_it_is(detector: Detector) -> None:
    refusal = Detection.refused(detector.identity, "2.25.1", Reason.NOT_LUMBAR)
    assert without_classes(refusal) is refusal


def test_the_intact_one_of_two_series_is_read_with_a_warning(
    detector: Detector, exam: WrittenExam, tmp_path: Path
) -> None:
    intact, damaged = (series(exam, tmp_path, number, lambda _: None) for number in (4, 5))
    damaged[3].write_bytes(damaged[3].read_bytes()[:-20_000])
    reading = detector.read_study([tmp_path])
    assert reading.detection.analysed
    assert reading.detection.series_uid == str(pydicom.dcmread(intact[0]).SeriesInstanceUID)
    assert reading.selection.chosen is not None
    assert reading.selection.chosen.uid == reading.detection.series_uid
    assert any(w.startswith("series 5 (…") and w.endswith("unreadable_pixels") for w in reading.detection.warnings)


def test_where_every_series_is_damaged_the_first_refusal_stays(
    detector: Detector, exam: WrittenExam, tmp_path: Path
) -> None:
    files = [series(exam, tmp_path, number, lambda _: None) for number in (4, 5)]
    for paths in files:
        paths[3].write_bytes(paths[3].read_bytes()[:-20_000])
    reading = detector.read_study([tmp_path])
    assert reading.volume is None
    assert reading.detection.reason is Reason.UNREADABLE_PIXELS
    assert reading.detection.series_uid == str(pydicom.dcmread(files[1][0]).SeriesInstanceUID)
    assert any("tried too and refused: unreadable_pixels" in warning for warning in reading.detection.warnings)
