"""The conformance statement says what the code does."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import pytest
from pydicom.uid import UID

from dicom_node.commitment import messages
from dicom_node.delivery.channel import Outcome
from dicom_node.delivery.store_scu import classify
from dicom_node.delivery.stow_sender import judge
from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, MANUFACTURER
from dicom_node.dicomweb import store_answer
from dicom_node.dicomweb.multipart_reader import MultipartLimits
from dicom_node.dicomweb.stow import StoreAnswer
from dicom_node.images import incoming
from dicom_node.receiving.contexts import supported_contexts, transfer_syntaxes
from dicom_node.results import codes, diagnostic_report, kinds
from dicom_node.settings.dicomweb import DicomwebRules
from dicom_node.settings.sections import ListenerRules, ResultsRules
from dicom_node.web import stow_app
from spineone_core.anatomy import READING_ORDER
from spineone_core.imaging import kinds as kinds_of_picture
from spineone_core.imaging import steps

TEXT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text(encoding="utf-8")
KINDS = {
    "report": kinds.REPORT,
    "report, second form": kinds.REPORT_2D,
    "overlay": kinds.OVERLAY,
    "presentation state": kinds.PRESENTATION,
    "key object note": kinds.KEY_OBJECT,
}


def table(first: str) -> list[list[str]]:
    """Rows of the table whose head begins with a cell."""
    block = TEXT.split(f"| {first} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines()[2:]]


def test_implementation() -> None:
    assert f"`{IMPLEMENTATION_CLASS_UID}`" in TEXT
    assert IMPLEMENTATION_VERSION_NAME.startswith("SPINEONE_")
    assert MANUFACTURER in TEXT


def test_contexts_accepted() -> None:
    assert f"{len(supported_contexts()) - 2} storage SOP classes" in TEXT
    assert f"the {len(transfer_syntaxes())} transfer syntaxes of Annex 7.5" in TEXT


def test_transfer_syntaxes() -> None:
    rows = table("transfer syntax")
    assert [uid for _, uid in rows] == list(transfer_syntaxes())
    assert [name for name, _ in rows] == [UID(uid).name for _, uid in rows]


def test_defaults_named() -> None:
    assert (ListenerRules().max_associations, ListenerRules().max_pdu) == (25, 128 * 1024)
    for key in re.findall(r"`results\.(\w+)`", TEXT):
        assert key in ResultsRules.model_fields, key


def test_sop_classes_sent() -> None:
    rows = table("object | SOP class")
    assert {row[2] for row in rows} == {kind.sop_class for kind in kinds.OBJECT_KINDS}
    assert [row[0] for row in rows] == list(KINDS)
    for name, sop_class, uid, _ in rows:
        assert UID(uid).name == sop_class
        assert uid == KINDS[name].sop_class


def test_series() -> None:
    rows = table("object | Modality")
    assert {row[0] for row in rows} == {name for name in KINDS if "second form" not in name}
    for name, modality, number, description in rows:
        series = KINDS[name].series
        assert (modality, int(number), description) == (series.modality, series.number, series.description)


@pytest.mark.parametrize(("meaning", "outcome"), [("stored", "sent"), ("tried again", "retry"), ("given up", "failed")])
def test_statuses_received(meaning: str, outcome: str) -> None:
    (row,) = [row for row in table("C-STORE status received") if row[1].startswith(meaning)]
    for status in row[0].split(", "):
        assert classify(int(status, 16)).outcome is Outcome(outcome), status


@pytest.mark.parametrize(("meaning", "outcome"), [("tried again", "retry"), ("given up", "failed")])
def test_stow_statuses(meaning: str, outcome: str) -> None:
    (row,) = [row for row in table("STOW-RS answer") if row[1].startswith(meaning)]
    for status in re.findall(r"\d{3}", row[0]):
        answer = judge(StoreAnswer(int(status), {}, {}), "1.2")
        assert answer is not None
        assert answer.outcome is Outcome(outcome), status


def test_fhir_codes() -> None:
    assert f"`{diagnostic_report.SYSTEMS[codes.CODING_SCHEME]}`" in TEXT
    title = codes.TITLE
    assert f'({title.value}, {title.scheme_designator}, "{title.meaning}")' in TEXT


def test_statuses_sent() -> None:
    named = {int(row[0], 16) for row in table("C-STORE status sent")}
    own = {incoming.SUCCESS, incoming.OUT_OF_RESOURCES, incoming.MISMATCH, incoming.CANNOT_UNDERSTAND}
    assert named == {*own, 0x0122, messages.NOT_AUTHORISED}


def test_stow__statuses_and_reasons() -> None:
    reasons = {int(row[0], 16) for row in table("Failure Reason of STOW-RS")}
    c_store = {incoming.OUT_OF_RESOURCES, incoming.MISMATCH, incoming.CANNOT_UNDERSTAND}
    assert reasons == {*c_store, store_answer.CLASS_NOT_SUPPORTED, store_answer.SYNTAX_NOT_SUPPORTED}
    source = inspect.getsource(stow_app) + inspect.getsource(store_answer)
    answered = {int(status) for status in re.findall(r"\b([2345]\d\d)\b", source)}
    named = {int(status) for row in table("HTTP status") for status in row[0].split(", ")}
    assert named == answered
    for key in re.findall(r"`dicomweb\.(\w+)`", TEXT):
        assert key in DicomwebRules.model_fields, key
    assert f"{MultipartLimits(1, 1, 1).most_of_head} bytes of header fields" in TEXT


def test_sites() -> None:
    rows = {row[0]: row[1] for row in table("level")}
    assert list(rows) == [landmark.level for landmark in READING_ORDER]
    for level, code in codes.SITES.items():
        assert rows[level] == f'({code.value}, {code.scheme_designator}, "{code.meaning}")'


@pytest.mark.parametrize(
    "code",
    [
        codes.TITLE,
        codes.PROCEDURE,
        codes.PROBABILITY,
        codes.CERTAINTY,
        codes.NORMALITY,
        codes.NORMAL,
        codes.ABNORMAL,
        codes.UNDETERMINED,
        codes.LUMBAR_SPINE,
        codes.PFIRRMANN,
        codes.PFIRRMANN_GRADES[1],
        codes.PFIRRMANN_GRADES[5],
        *codes.SIGNS.values(),
    ],
    ids=lambda code: code.meaning,
)
def test_codes(code: object) -> None:
    value, scheme, meaning = code.value, code.scheme_designator, code.meaning  # type: ignore[attr-defined]
    assert f'({value}, {scheme}, "{meaning}")' in TEXT


def test_tolerances_of_a_stack() -> None:
    """The section's numbers are those of the code."""
    section = TEXT.split("What is one stack\n", 1)[1].split("\n### ", 1)[0]
    rows = {name: apart for name, apart, _ in table("what decides, in this order")}

    def numbers(row: str) -> list[float]:
        return [float(number) for number in re.findall(r"\d+\.?\d*", rows[row])]

    assert numbers("Pixel Spacing") == [kinds_of_picture.SAME_SPACING_SHARE * 100]
    assert numbers("Image Orientation, and so the direction of travel") == [kinds_of_picture.SAME_ORIENTATION_DEGREES]
    assert numbers("Echo Time, Inversion Time") == [
        kinds_of_picture.SAME_TIME_MS,
        kinds_of_picture.SAME_TIME_SHARE * 100,
    ]
    assert numbers("first pixel within the plane") == [steps.SAME_LINE_MM, math.degrees(math.atan(steps.MAX_SLANT))]
    assert numbers("distance along the normal") == [steps.MAX_STEP_MM]
    assert numbers("steps") == [steps.CLOSE_STEP_SHARE * 100]
    text = " ".join(section.split())
    assert f"within {steps.EVEN_STEP_SHARE:.0%}".replace("%", " %") in text
    assert f"at most {steps.MISSING_SHARE:.0%}".replace("%", " %") in text
    assert text.count(f"nearer than {steps.CLOSE_STEP_SHARE:.0%}".replace("%", " %")) == 2
