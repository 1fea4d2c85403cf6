"""The studies that results are judged on, as files, and what the node makes of them.

They are phantoms whose points are known exactly: the node's own code reads the files and makes the results, only the detector
is replaced by the truth. So what a validator, an archive or a viewer must find is known, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import gdcm
import pydicom
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from dicom_node.analysis.analyse import analyse
from dicom_node.analysis.offline import find_studies
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import ResultsRules
from spineone_core.anatomy import READING_ORDER, Grade
from spineone_core.findings import Detection, Finding, ModelIdentity, Status
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.selection import Selection
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.phantom.dicom import WrittenExam, write_exam

MODEL = ModelIdentity(name="phantom-truth", version="1", digest="0" * 64)
CREATED = datetime(2026, 1, 5, 10, 0, 0)  # noqa: DTZ001 (a site's local time)
EVERYTHING = ResultsRules(presentation_state=True, key_object=True, slice_sheet=True)


@dataclass(frozen=True)
class Variant:
    """How a study is written: ``options`` of ``write_exam``, then ``values`` set in every image (None removes).

    Seeds were chosen by eye: the spine stands in the left half, so that a viewer has room for its labels.
    """

    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    transcode: str = ""


def _named(seed: int, character_set: str | list[str], name: str, study: str, physician: str) -> Variant:
    values = {
        "SpecificCharacterSet": character_set,
        "PatientName": name,
        "StudyDescription": study,
        "ReferringPhysicianName": physician,
    }
    return Variant(seed, {"slices": 3}, values)


# What a careless anonymiser leaves out.
_POOR = (
    "SliceThickness",
    "FrameOfReferenceUID",
    "SpecificCharacterSet",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyDescription",
    "SeriesDescription",
    "SeriesNumber",
    "BodyPartExamined",
    "Manufacturer",
    "WindowCenter",
    "WindowWidth",
)

VARIETY: dict[str, Variant] = {
    "classic": Variant(11),
    "enhanced": Variant(15, {"enhanced": True}),
    "jpeg-lossless": Variant(21, {"slices": 3}, transcode=JPEGLosslessSV1),
    "jpeg-2000-enhanced": Variant(26, {"slices": 3, "enhanced": True, "transfer_syntax": JPEG2000Lossless}),
    "jpeg-ls": Variant(29, {"slices": 3, "transfer_syntax": JPEGLSLossless}),
    "rle": Variant(38, {"slices": 3, "transfer_syntax": RLELossless}),
    "cyrillic": _named(49, "ISO_IR 144", "Люксембург^Анна", "МРТ поясничного отдела", "Иванов^Пётр"),
    "japanese": _named(
        51, ["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "腰椎MRI", "Suzuki=鈴木=すずき"
    ),
    "chinese": _named(63, "GB18030", "王^小东", "腰椎磁共振", "Li=李"),
    "anonymised": Variant(
        75,
        {"slices": 3},
        {
            "PatientName": "",
            "PatientID": "ANON-1",
            "PatientBirthDate": "",
            "StudyDate": "",
            "AccessionNumber": "",
            "PatientIdentityRemoved": "YES",
            "DeidentificationMethod": "profile of a test",
        },
    ),
    "poor": Variant(82, {"slices": 3}, dict.fromkeys(_POOR)),
}


@dataclass(frozen=True)
class Case:
    """A study on disk, its truth as a detection, and its results by role."""

    exam: WrittenExam
    detection: Detection
    files: tuple[Path, ...]
    results: dict[str, Path]


def make_case(folder: Path, variant: Variant) -> Case:
    """Write study and results below ``folder``."""
    exam = write_exam(folder / "study", variant.seed, companions=False, **variant.options)
    for path in exam.files["t2"]:
        _rewrite(path, variant)
    return case_of(exam, exam.files["t2"], folder / "results")


def case_of(exam: WrittenExam, files: tuple[Path, ...], folder: Path) -> Case:
    """The results of a study in ``files``; ``report_3d`` is the report with points in patient coordinates."""
    folder.mkdir(parents=True)
    reader = TruthReader(exam)
    results = _results(reader, files, folder, EVERYTHING)
    in_space = _results(reader, files, folder, ResultsRules(scoord3d=True, secondary_capture=False), prefix="3d-")
    return Case(exam, reader.detection, files, {**results, "report_3d": in_space["report"]})


def _rewrite(path: Path, variant: Variant) -> None:
    if variant.transcode:
        _transcode(path, variant.transcode)
    if variant.values:
        image = pydicom.dcmread(path)
        for keyword, value in variant.values.items():
            set_value(image, keyword, value)
        image.save_as(path)


def set_value(dataset: Dataset, keyword: str, value: Any) -> None:
    """Any value, also one that breaks its VR; None removes."""
    if value is not None:
        vr = dictionary_VR(keyword)
        dataset[keyword] = pydicom.DataElement(keyword, vr, value, validation_mode=IGNORE)
    elif keyword in dataset:
        delattr(dataset, keyword)


def _transcode(path: Path, transfer_syntax: str) -> None:
    """pydicom has no encoder for JPEG lossless, the most frequent compression in archives."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(transfer_syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def _results(
    reader: TruthReader, files: Sequence[Path], folder: Path, wanted: ResultsRules, *, prefix: str = ""
) -> dict[str, Path]:
    """The DICOM files that the node makes, past its gate."""
    settings = NodeSettings(data_dir=folder, results=wanted)
    ((study_uid, inputs),) = find_studies(files).studies.items()
    analysis = analyse(reader, study_uid, inputs, settings, created=CREATED)
    paths = {p.role: folder / f"{prefix}{p.name}" for p in analysis.products if p.sop_class_uid}
    for product in analysis.products:
        if product.role in paths:
            paths[product.role].write_bytes(product.data)
    return paths


@dataclass(frozen=True)
class _Reading:
    detection: Detection
    volume: SagittalVolume | None
    selection: Selection


class TruthReader:
    """In the detector's place: reads the series, and knows where everything is."""

    identity = MODEL

    def __init__(self, exam: WrittenExam) -> None:
        self.detection = truth(exam)

    def read_study(self, paths: Sequence[Path], *, min_slices: int = 1) -> _Reading:
        frames, _ = read_headers(paths)
        (series,) = group_series(frames)
        return _Reading(self.detection, load_volume(series), Selection(series, None, "", (), candidates=(series,)))


def truth(exam: WrittenExam) -> Detection:
    """The phantom's own points and grades; one level is left undecided, so that all three classes are shown."""
    volume = exam.exam.volume
    findings = []
    for landmark in READING_ORDER:
        x, y = exam.points[landmark.level]
        x_mm, y_mm, z_mm = (float(v) for v in volume.to_patient(volume.middle_index, x, y))
        degenerative = exam.exam.grades[landmark.level] is Grade.DEGENERATIVE
        undecided = landmark.level == "L3"
        findings.append(
            Finding(
                structure=landmark.structure,
                level=landmark.level,
                probability=0.52 if undecided else 0.94 if degenerative else 0.06,
                decided=not undecided,
                x=x,
                y=y,
                xyz_mm=(x_mm, y_mm, z_mm),
                localisation_confidence=1.0,
            )
        )
    return Detection(
        study_uid=exam.study_uid,
        series_uid=exam.series_uid,
        sop_instance_uid=exam.sop_instance_uid,
        model=MODEL,
        status=Status.ANALYSED,
        findings=tuple(findings),
        frame_number=exam.frame_number,
    )
