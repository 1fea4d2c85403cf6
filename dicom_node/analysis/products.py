"""From a detection to the files of a result, each checked before it may leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from dicom_node.analysis.inputs import Headers
from dicom_node.dicom.identifiers import ResultKey
from dicom_node.errors import NodeError
from dicom_node.gate import check
from dicom_node.results.codes import coded
from dicom_node.results.envelope import to_bytes
from dicom_node.results.key_object import build_key_object
from dicom_node.results.overlay import build_overlay, build_sheet, build_table, overlay_png
from dicom_node.results.presentation import build_presentation
from dicom_node.results.report import SOP_CLASS_2D, build_report
from dicom_node.results.sr_document import Predecessor
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.types import code_parts
from spineone_core.anatomy import Structure
from spineone_core.findings import Detection
from spineone_core.imaging.volume import SagittalVolume


class RefusedByGateError(NodeError):
    """A result did not pass the check before sending; nothing was sent. This is a defect of the node: report it."""


# The reports that the new ones of a study replace, by role; none for its first result.
History = Callable[[ResultKey], Mapping[str, Predecessor]]


@dataclass(frozen=True, slots=True)
class Product:
    """One file of a result. UIDs are empty where it is no DICOM file."""

    role: str
    name: str
    data: bytes
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


def reports(
    detection: Detection,
    volume: SagittalVolume | None,
    headers: Headers,
    key: ResultKey,
    created: datetime,
    replaced: Mapping[str, Predecessor],
    settings: NodeSettings,
) -> list[Product]:
    """The report in both forms; each destination gets the one it takes."""
    slice_header = headers.of(detection.sop_instance_uid)
    sources = [] if volume is None else list(dict.fromkeys(s.sop_instance_uid for s in volume.sources))
    build = partial(
        build_report,
        detection=detection,
        header=headers.patient(detection.sop_instance_uid),
        slice_header=slice_header,
        key=key,
        created=created,
        images=[header for uid in sources if (header := headers.of(uid)) is not None],
        degenerative=_degenerative_codes(settings),
        in_space=settings.results.scoord3d,
    )
    return [
        _checked("report", "sr.dcm", build(predecessor=replaced.get("report"))),
        _checked("report_2d", "sr-2d.dcm", build(sop_class=SOP_CLASS_2D, predecessor=replaced.get("report_2d"))),
    ]


def _degenerative_codes(settings: NodeSettings) -> dict[Structure, CodedConcept]:
    named = {
        Structure.DISC: code_parts(settings.results.degenerative_disc),
        Structure.VERTEBRA: code_parts(settings.results.degenerative_vertebra),
    }
    return {structure: coded(*parts) for structure, parts in named.items() if parts}


def overlay(
    detection: Detection,
    volume: SagittalVolume,
    headers: Headers,
    key: ResultKey,
    created: datetime,
    settings: NodeSettings,
) -> list[Product]:
    header = headers.patient(detection.sop_instance_uid)
    page = {"detection": detection, "volume": volume, "header": header, "key": key, "created": created}
    overlay = build_overlay(**page)
    products = [_checked("overlay", "overlay.dcm", overlay), Product("picture", "overlay.png", overlay_png(overlay))]
    if settings.results.table_page:
        products.append(_checked("table", "overlay-table.dcm", build_table(**page)))
    if settings.results.slice_sheet:
        products.append(_checked("sheet", "overlay-sheet.dcm", build_sheet(**page)))
    return products


def key_object(detection: Detection, headers: Headers, key: ResultKey, created: datetime) -> Product:
    slice_header = headers.of(detection.sop_instance_uid)
    assert slice_header is not None
    header = headers.patient(detection.sop_instance_uid)
    note = build_key_object(detection=detection, header=header, slice_header=slice_header, key=key, created=created)
    return _checked("key_object", "ko.dcm", note)


def presentation(
    detection: Detection, volume: SagittalVolume, headers: Headers, key: ResultKey, created: datetime
) -> Product:
    slice_header = headers.of(detection.sop_instance_uid)
    assert slice_header is not None
    state = build_presentation(
        detection=detection,
        volume=volume,
        header=headers.patient(detection.sop_instance_uid),
        slice_header=slice_header,
        key=key,
        created=created,
    )
    return _checked("presentation", "gsps.dcm", state)


def _checked(role: str, name: str, dataset: Dataset) -> Product:
    problems = check.check(dataset)
    if problems:
        raise RefusedByGateError(f"{role}: {'; '.join(problems)}")
    return Product(role, name, to_bytes(dataset), str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
