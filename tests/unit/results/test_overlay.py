"""The overlay is an honest secondary capture of the study: identity, derivation, pixels, distances."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from dicom_node.dicom.identifiers import is_own_result, model_device_uid
from dicom_node.results.envelope import to_bytes
from dicom_node.results.kinds import OVERLAY
from dicom_node.results.overlay import build_overlay, overlay_png
from spineone_core.drawing.overlay import render_overlay
from spineone_core.findings import RESEARCH_USE, Detection, Reason
from tests.unit.synthetic import (
    CREATED,
    ENHANCED_MR,
    KEY,
    MODEL,
    MR,
    NAMES,
    SLICE,
    STUDY,
    analysed,
    classic,
    named,
    poor,
    refused,
    volume,
)


def _overlay(detection: Detection | None = None, header: Dataset | None = None, **changes: object) -> Dataset:
    arguments = {
        "detection": detection or analysed(),
        "volume": volume(),
        "header": header if header is not None else classic(),
        "key": KEY,
        "created": CREATED,
    }
    return build_overlay(**{**arguments, **changes})  # type: ignore[arg-type]


def test_identity_and_derivation() -> None:
    overlay = _overlay()
    assert overlay.SOPClassUID == OVERLAY.sop_class
    assert overlay.StudyInstanceUID == STUDY
    assert (overlay.PatientID, str(overlay.PatientName)) == ("P-0001", "Test^Patient")
    assert overlay.SOPInstanceUID == KEY.uid("overlay")
    assert overlay.SeriesInstanceUID == KEY.uid("overlay-series")
    assert overlay.ImageType == ["DERIVED", "SECONDARY"]
    assert overlay.BurnedInAnnotation == "YES"
    assert RESEARCH_USE in overlay.DerivationDescription
    assert overlay.ContributingEquipmentSequence[0].DeviceUID == model_device_uid(MODEL.digest)
    assert is_own_result(overlay)


@pytest.mark.parametrize(("frame", "sop_class"), [(None, MR), (5, ENHANCED_MR)])
def test_source_image_is_the_slice(frame: int | None, sop_class: str) -> None:
    overlay = _overlay(analysed(frame_number=frame), volume=volume(frames=frame))
    (source,) = overlay.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == SLICE
    assert source.ReferencedSOPClassUID == sop_class
    assert source.get("ReferencedFrameNumber") == frame


def test_pixels_are_the_picture_and_distances_measure_right() -> None:
    overlay = _overlay()
    rendered = render_overlay(volume(), analysed())
    assert np.array_equal(overlay.pixel_array, rendered.image)
    assert np.array_equal(np.asarray(Image.open(BytesIO(overlay_png(overlay)))), rendered.image)
    first, last = analysed().findings[0], analysed().findings[-1]
    a, b = (rendered.to_picture(f.x, f.y) for f in (first, last))
    spacing = [float(v) for v in overlay.PixelSpacing]
    measured = np.hypot((b[0] - a[0]) * spacing[1], (b[1] - a[1]) * spacing[0])
    true = np.linalg.norm(np.subtract(first.xyz_mm, last.xyz_mm))
    assert measured == pytest.approx(true, rel=1e-4)
    assert overlay.PatientOrientation == ["P", "F"]


@pytest.mark.parametrize("kind", NAMES)
def test_names_survive(kind: str) -> None:
    overlay = _overlay(header=named(kind), volume=volume(rows=20, columns=16, spacing=(8.0, 8.0)))
    assert str(overlay.PatientName) == NAMES[kind][1]


def test_equal_arguments_give_equal_bytes() -> None:
    first = to_bytes(_overlay())
    assert to_bytes(_overlay()) == first
    assert to_bytes(pydicom.dcmread(BytesIO(first))) == first
    for mark in (b"1.2.826.0.1.3680043", b"highdicom", b"pydicom", b"PYDICOM"):
        assert mark not in first


def test_refused_study_has_a_picture_too() -> None:
    overlay = _overlay(refused(Reason.LEVELS_INCOMPLETE, chosen=True), poor())
    assert "BodyPartExamined" not in overlay
    assert overlay.Rows > 900


def test_odd_pixel_data_are_padded() -> None:
    lengths = {len(_overlay(volume=volume(rows=rows)).PixelData) % 2 for rows in (319, 320, 321)}
    assert lengths == {0}


@pytest.mark.parametrize(
    "changes",
    [
        {"header": classic(StudyInstanceUID="2.25.9")},
        {"volume": replace(volume(), study_uid="2.25.9")},
        {"detection": replace(analysed(), study_uid="2.25.9")},
    ],
)
def test_another_study_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not of one study"):
        _overlay(**changes)  # type: ignore[arg-type]
