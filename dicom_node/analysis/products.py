"""Making the files of a result from a detection, and checking each before it may leave.

`CATALOGUE` has one row for each kind of file: when it is wanted, and how it is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset

from dicom_node.analysis.inputs import Headers
from dicom_node.database.words import Cause
from dicom_node.dicom.identifiers import ResultKey
from dicom_node.errors import NodeError
from dicom_node.gate import check
from dicom_node.gate.source import Source
from dicom_node.results import kinds
from dicom_node.results.codes import coded
from dicom_node.results.envelope import to_bytes
from dicom_node.results.key_object import build_key_object
from dicom_node.results.kinds import ObjectKind, ResultKind
from dicom_node.results.overlay import build_overlay, build_sheet, build_table, overlay_png
from dicom_node.results.presentation import build_presentation
from dicom_node.results.report import build_report
from dicom_node.results.sr_document import Predecessor
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.types import code_parts
from spineone_core.anatomy import Structure
from spineone_core.findings import Detection, Reason
from spineone_core.imaging.volume import SagittalVolume


class RefusedByGateError(NodeError):
    """A result did not pass the check before sending; nothing was sent. This is a defect of the node: report it."""


# Gives the reports that a study's new ones replace, by role; none for its first result.
History = Callable[[str], Mapping[str, Predecessor]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a result comes from: the generation of its study (from 1), and why there is a new result."""

    generation: int = 1
    cause: Cause = Cause.FIRST

    def findings(self, detection: Detection) -> str:
        """The JSON object of ``findings.json``, one line."""
        origin = {"generation": self.generation, "cause": self.cause.value}
        return json.dumps({**detection.to_json(), **origin}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Product:
    """One file of a result. The UIDs are empty if it is not a DICOM file."""

    role: str
    name: str
    data: bytes
    sop_class_uid: str = ""
    sop_instance_uid: str = ""


@dataclass(frozen=True, eq=False)
class Material:
    """What a result is made from.

    Parameters
    ----------
    volume
        The series that was analysed; None if none could be read.
    headers
        The headers of the images that were analysed.
    key
        Gives the UIDs.
    created
        Time of the job, timezone-aware, in the site's local zone.
    history
        Says which reports of a study the new ones replace; it is asked only if there will be reports.
    origin
        Which generation of the study it is about, and why.
    """

    detection: Detection
    volume: SagittalVolume | None
    headers: Headers
    key: ResultKey
    created: datetime
    settings: NodeSettings
    history: History
    origin: Origin = Origin()

    @property
    def is_pictured(self) -> bool:
        """Whether there are findings, and slices to show them on."""
        return self.volume is not None and self.detection.analysed

    @property
    def slices(self) -> SagittalVolume:
        """The volume of a study that is pictured."""
        assert self.volume is not None
        return self.volume

    # Headers are read again for each object: building one decodes elements, but the next one must copy raw bytes.

    @property
    def patient(self) -> Dataset:
        """The header that says whose study it is."""
        return self.headers.patient(self.detection.sop_instance_uid)

    @property
    def slice_header(self) -> Dataset:
        """The header of the slice on which the findings of an analysed study lie."""
        header = self.headers.of(self.detection.sop_instance_uid)
        assert header is not None
        return header

    @cached_property
    def replaced(self) -> Mapping[str, Predecessor]:
        """The reports that the new ones replace, by role."""
        return self.history(self.key.study_uid)

    @cached_property
    def images(self) -> list[Dataset]:
        """The headers of the volume's images, in its order, each once."""
        uids = dict.fromkeys(source.sop_instance_uid for source in self.volume.sources) if self.volume else ()
        return [header for uid in uids if (header := self.headers.of(uid)) is not None]

    @cached_property
    def overlay(self) -> Dataset:
        """The overlay; its picture is also a separate file."""
        return build_overlay(
            detection=self.detection, volume=self.slices, header=self.patient, key=self.key, created=self.created
        )


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """A DICOM object of a result: when it is wanted, and how it is built."""

    kind: ObjectKind
    is_wanted: Callable[[Material], bool]
    build: Callable[[Material], Dataset]


@dataclass(frozen=True, slots=True)
class FileRow:
    """Another file of a result: when it is wanted, and how its bytes are made."""

    kind: ResultKind
    is_wanted: Callable[[Material], bool]
    write: Callable[[Material], bytes]


def make_products(material: Material) -> tuple[Product, ...]:
    """Every file that the settings ask for and the detection allows, in the order of the catalogue.

    Raises
    ------
    RefusedByGateError
        If an object that was made would not be fit to be sent.
    """
    return tuple(_make(row, material) for row in CATALOGUE if row.is_wanted(material))


def _make(row: ObjectRow | FileRow, material: Material) -> Product:
    if isinstance(row, FileRow):
        return Product(row.kind.role, row.kind.file_name, row.write(material))
    dataset = row.build(material)
    problems = check.check_with_source(dataset, Source(material.patient, material.images))
    if problems:
        raise RefusedByGateError(f"{row.kind.role}: {'; '.join(problems)}")
    return Product(
        row.kind.role, row.kind.file_name, to_bytes(dataset), str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
    )


# ---------------------------------------------------------------- when


def _always(material: Material) -> bool:
    return True


def _wants_report(material: Material) -> bool:
    is_writable = material.detection.reason is not Reason.UNWRITABLE
    return material.settings.results.structured_report and is_writable


def _wants_overlay(material: Material) -> bool:
    return material.settings.results.secondary_capture and material.is_pictured


def _wants_table(material: Material) -> bool:
    return material.settings.results.table_page and _wants_overlay(material)


def _wants_sheet(material: Material) -> bool:
    return material.settings.results.slice_sheet and _wants_overlay(material)


def _wants_presentation(material: Material) -> bool:
    return material.settings.results.presentation_state and material.is_pictured


def _wants_key_object(material: Material) -> bool:
    return material.settings.results.key_object and material.detection.analysed


# ---------------------------------------------------------------- how


def _write_findings(material: Material) -> bytes:
    return (material.origin.findings(material.detection) + "\n").encode()


def _build_report(material: Material) -> Dataset:
    return _build_form(material, kinds.REPORT)


def _build_report_2d(material: Material) -> Dataset:
    return _build_form(material, kinds.REPORT_2D)


def _build_form(material: Material, form: ObjectKind) -> Dataset:
    """The report in one of its forms; each destination gets the one it takes."""
    return build_report(
        kind=form,
        detection=material.detection,
        header=material.patient,
        slice_header=material.headers.of(material.detection.sop_instance_uid),
        key=material.key,
        created=material.created,
        images=material.images,
        predecessor=material.replaced.get(form.role),
        degenerative=_degenerative_codes(material.settings),
        in_space=material.settings.results.scoord3d,
        grades=material.settings.results.grades,
    )


def _degenerative_codes(settings: NodeSettings) -> dict[Structure, CodedConcept]:
    named = {
        Structure.DISC: code_parts(settings.results.degenerative_disc),
        Structure.VERTEBRA: code_parts(settings.results.degenerative_vertebra),
    }
    return {structure: coded(*parts) for structure, parts in named.items() if parts}


def _build_overlay(material: Material) -> Dataset:
    return material.overlay


def _write_picture(material: Material) -> bytes:
    return overlay_png(material.overlay)


def _build_table(material: Material) -> Dataset:
    return build_table(
        detection=material.detection,
        volume=material.slices,
        header=material.patient,
        key=material.key,
        created=material.created,
    )


def _build_sheet(material: Material) -> Dataset:
    return build_sheet(
        detection=material.detection,
        volume=material.slices,
        header=material.patient,
        key=material.key,
        created=material.created,
    )


def _build_presentation(material: Material) -> Dataset:
    return build_presentation(
        detection=material.detection,
        volume=material.slices,
        header=material.patient,
        slice_header=material.slice_header,
        key=material.key,
        created=material.created,
    )


def _build_key_object(material: Material) -> Dataset:
    return build_key_object(
        detection=material.detection,
        header=material.patient,
        slice_header=material.slice_header,
        key=material.key,
        created=material.created,
    )


CATALOGUE: tuple[ObjectRow | FileRow, ...] = (
    FileRow(kinds.FINDINGS, _always, _write_findings),
    ObjectRow(kinds.REPORT, _wants_report, _build_report),
    ObjectRow(kinds.REPORT_2D, _wants_report, _build_report_2d),
    ObjectRow(kinds.OVERLAY, _wants_overlay, _build_overlay),
    FileRow(kinds.PICTURE, _wants_overlay, _write_picture),
    ObjectRow(kinds.TABLE, _wants_table, _build_table),
    ObjectRow(kinds.SHEET, _wants_sheet, _build_sheet),
    ObjectRow(kinds.PRESENTATION, _wants_presentation, _build_presentation),
    ObjectRow(kinds.KEY_OBJECT, _wants_key_object, _build_key_object),
)
