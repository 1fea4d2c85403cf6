"""The files of a result: one row for each, in the order in which they are made and sent.

What depends on the kinds of results follows this table, and a test compares them: the roles in `database.words`, the
classes in `dicom.sop_classes`, the catalogue in `analysis.products` and the gate's rules in `gate.check`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultKind:
    """A file of a result: its role in the database, and its name in the result's folder."""

    role: str
    file_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSeries:
    """A series of result objects. Its UID is derived from ``uid_name`` (`ResultKey.uid`), which never changes."""

    uid_name: str
    number: int
    description: str
    modality: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectKind(ResultKind):
    """A file that is a DICOM object, and so is sent.

    Parameters
    ----------
    uid_name
        What the object's UID is derived from (`ResultKey.uid`); it never changes.
    stands_in_for
        Role of the object that this one replaces at a destination that does not take its SOP class; empty if none.
    """

    sop_class: str
    uid_name: str
    series: ResultSeries
    instance_number: int = 1
    stands_in_for: str = ""


def _report_series(uid_name: str) -> ResultSeries:
    """A series for one form of the report: viewers show one report per series, so each form has its own."""
    return ResultSeries(
        uid_name=uid_name, number=9801, description="SpineOne lumbar findings (research)", modality="SR"
    )


_PICTURES = ResultSeries(
    uid_name="overlay-series", number=9802, description="SpineOne overlay (research)", modality="OT"
)

FINDINGS = ResultKind(role="findings", file_name="findings.json")
REPORT = ObjectKind(
    role="report",
    file_name="sr.dcm",
    sop_class=str(Comprehensive3DSRStorage),
    uid_name="sr",
    series=_report_series("sr-series"),
)
REPORT_2D = ObjectKind(
    role="report_2d",
    file_name="sr-2d.dcm",
    sop_class=str(ComprehensiveSRStorage),
    uid_name="sr-2d",
    series=_report_series("sr-2d-series"),
    stands_in_for="report",
)
OVERLAY = ObjectKind(
    role="overlay",
    file_name="overlay.dcm",
    sop_class=str(SecondaryCaptureImageStorage),
    uid_name="overlay",
    series=_PICTURES,
)
PICTURE = ResultKind(role="picture", file_name="overlay.png")
TABLE = ObjectKind(
    role="table",
    file_name="overlay-table.dcm",
    sop_class=str(SecondaryCaptureImageStorage),
    uid_name="table",
    series=_PICTURES,
    instance_number=2,
)
SHEET = ObjectKind(
    role="sheet",
    file_name="overlay-sheet.dcm",
    sop_class=str(SecondaryCaptureImageStorage),
    uid_name="sheet",
    series=_PICTURES,
    instance_number=3,
)
PRESENTATION = ObjectKind(
    role="presentation",
    file_name="gsps.dcm",
    sop_class=str(GrayscaleSoftcopyPresentationStateStorage),
    uid_name="presentation",
    series=ResultSeries(
        uid_name="presentation-series", number=9803, description="SpineOne annotations (research)", modality="PR"
    ),
)
KEY_OBJECT = ObjectKind(
    role="key_object",
    file_name="ko.dcm",
    sop_class=str(KeyObjectSelectionDocumentStorage),
    uid_name="key-object",
    series=ResultSeries(
        uid_name="key-object-series", number=9804, description="SpineOne analysed slice (research)", modality="KO"
    ),
)

RESULT_KINDS: tuple[ResultKind, ...] = (
    FINDINGS,
    REPORT,
    REPORT_2D,
    OVERLAY,
    PICTURE,
    TABLE,
    SHEET,
    PRESENTATION,
    KEY_OBJECT,
)
OBJECT_KINDS = tuple(kind for kind in RESULT_KINDS if isinstance(kind, ObjectKind))
# The report in its forms (docs/decisions/010).
REPORTS = (REPORT, REPORT_2D)
# By role: what is sent instead of an object, never beside it, if the destination does not take the object's class.
ALTERNATIVES = {kind.stands_in_for: kind.role for kind in OBJECT_KINDS if kind.stands_in_for}
