"""The sentences of a report."""

from __future__ import annotations

from highdicom.sr import (
    ContainerContentItem,
    ContentSequence,
    RelationshipTypeValues,
    TextContentItem,
)

from dicom_node.dicom.identifiers import tracking_identifier
from dicom_node.results.codes import COMMENT, COMMENTS
from dicom_node.results.envelope import plain
from spineone_core.findings import RESEARCH_USE, Detection, Finding


def comments(detection: Detection, superseding: bool) -> ContainerContentItem:
    """The container of a report's sentences."""
    container = ContainerContentItem(name=COMMENTS, relationship_type=RelationshipTypeValues.CONTAINS)
    container.ContentSequence = ContentSequence(
        [
            TextContentItem(name=COMMENT, value=text, relationship_type=RelationshipTypeValues.CONTAINS)
            for text in comment_lines(detection, superseding=superseding)
        ]
    )
    return container


def comment_lines(detection: Detection, *, superseding: bool = False) -> list[str]:
    """What the report says in words, for viewers that show nothing else."""
    model = detection.model
    lines = [
        f"{RESEARCH_USE}. Computed by software, not a diagnosis, not verified by a physician.",
        plain(f"Model {model.name} {model.version}, SHA-256 {model.digest}"),
    ]
    if superseding:
        lines.append("Replaces an earlier report of this study, which is named as its predecessor.")
    lines += [_summary(f) for f in detection.findings] if detection.analysed else [_refusal(detection)]
    lines += [plain(f"A {structure} counts as degenerative at: {text}") for structure, text in detection.definitions]
    return lines + [plain(f"Warning: {warning}") for warning in detection.warnings]


def _summary(finding: Finding) -> str:
    grade = finding.grade.value if finding.decided else "undecided"
    name = tracking_identifier(finding.landmark)
    return f"{name}: {grade}, probability of degeneration {100 * finding.probability:.0f} %"


def _refusal(detection: Detection) -> str:
    assert detection.reason is not None
    text = detection.reason.text
    detail = f" ({detection.reason_detail})" if detection.reason_detail not in ("", text) else ""
    return plain(f"Not analysable [{detection.reason.value}]: {text}{detail}")
