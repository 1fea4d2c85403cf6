from __future__ import annotations

from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset

from dicom_node.dicom.identifiers import is_own_result
from dicom_node.gate.check import check
from dicom_node.results.envelope import to_bytes
from dicom_node.results.key_object import build_key_object
from dicom_node.results.kinds import KEY_OBJECT
from spineone_core.findings import RESEARCH_USE, Detection
from tests.unit.synthetic import (
    CREATED,
    ENHANCED_MR,
    KEY,
    MR,
    NAMES,
    SLICE,
    analysed,
    classic,
    enhanced,
    named,
    refused,
)


def _note(detection: Detection | None = None, header: Dataset | None = None, **changes: object) -> Dataset:
    source = header if header is not None else classic()
    arguments = {
        "detection": detection or analysed(),
        "header": source,
        "slice_header": source,
        "key": KEY,
        "created": CREATED,
    }
    return build_key_object(**{**arguments, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("detection", "header", "sop_class", "frame"),
    [(analysed(), classic(), MR, None), (analysed(frame_number=5), enhanced(), ENHANCED_MR, 5)],
)
def test_it_points_at_the_slice(detection: Detection, header: Dataset, sop_class: str, frame: int | None) -> None:
    note = _note(detection, header)
    assert check(note) == []
    assert (note.SOPClassUID, note.Modality, note.SOPInstanceUID) == (KEY_OBJECT.sop_class, "KO", KEY.uid("key-object"))
    (image,) = [item for item in note.ContentSequence if item.ValueType == "IMAGE"]
    (reference,) = image.ReferencedSOPSequence
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (sop_class, SLICE)
    assert reference.get("ReferencedFrameNumber") == frame
    assert any(RESEARCH_USE in item.get("TextValue", "") for item in note.ContentSequence)
    assert is_own_result(note)


@pytest.mark.parametrize("kind", NAMES)
def test_names_survive(kind: str) -> None:
    note = _note(header=named(kind))
    assert str(note.PatientName) == NAMES[kind][1]
    assert check(note) == []


def test_equal_arguments_give_equal_bytes() -> None:
    assert to_bytes(_note()) == to_bytes(_note())


@pytest.mark.parametrize(
    "changes",
    [
        {"detection": refused()},
        {"header": classic(StudyInstanceUID="2.25.4")},
        {"slice_header": classic(SOPInstanceUID="2.25.5")},
    ],
)
def test_what_does_not_belong_together_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"not|another"):
        _note(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda d: setattr(d, "Modality", "SR"), "Modality: must be KO"),
        (lambda d: setattr(d.ConceptNameCodeSequence[0], "CodeValue", "1"), "not a key object selection"),
        (lambda d: d.ContentSequence.pop(), "not exactly one image"),
        (lambda d: delattr(d, "CurrentRequestedProcedureEvidenceSequence"), "missing"),
        (
            lambda d: setattr(d.ContentSequence[-1].ReferencedSOPSequence[0], "ReferencedSOPInstanceUID", "2.25.9"),
            "not listed as evidence",
        ),
    ],
)
def test_broken_notes_are_caught(breakage: Callable[[Dataset], object], message: str) -> None:
    note = _note()
    breakage(note)
    problems = check(note)
    assert any(message in problem for problem in problems), problems
