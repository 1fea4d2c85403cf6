"""Pulling by DICOM associations: C-FIND says what there is, and C-MOVE or C-GET brings it.

Images that come by C-MOVE go through the listener; images that come by C-GET go through the same store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import DESTINATION, SOURCE, Participant
from dicom_node.audit.people import person
from dicom_node.audit.transfers import Transfer, audit_query
from dicom_node.database.connection import Database
from dicom_node.dicom.bounded_dimse import BoundedDimse
from dicom_node.dicom.budget import Budget
from dicom_node.dicom.query import FIND, PENDING, find, query_of, text_of
from dicom_node.dicom.remote import Context, RemoteAE
from dicom_node.dicom.sop_classes import image_class
from dicom_node.images.incoming import Incoming
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.found import FoundImage, FoundStudy
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Archive

MOVE = str(StudyRootQueryRetrieveInformationModelMove)
GET = str(StudyRootQueryRetrieveInformationModelGet)
# An archive may say nothing until the last image of a series has arrived.
_RETRIEVE_TIMEOUT_S = 600.0
_MOST_CONTEXTS = 128
# The archive chooses; the usual ones first.
_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
_SOME_FAILED = 0xB000


class DimsePull:
    """Finds and fetches studies of one archive.

    Parameters
    ----------
    settings
        The settings of the whole node.
    database
        Where what comes by C-GET is indexed.
    archive
        The archive to ask.
    """

    def __init__(self, settings: NodeSettings, database: Database, archive: Archive) -> None:
        self._settings = settings
        self._database = database
        self._archive = archive
        self._audit = AuditLog(settings)
        self._remote = RemoteAE.of(settings, archive)

    def find_studies(self, keys: Mapping[str, str]) -> list[FoundStudy]:
        """The studies that match; raises `DeliveryError` if the archive cannot be asked, as all here do."""
        wanted = dict.fromkeys(("StudyInstanceUID", "StudyDate", "ModalitiesInStudy"), "")
        query = query_of("STUDY", {**wanted, **keys})
        with self._remote.association([(FIND, ())]) as association:
            audit_query(self._audit, self._archive, query, [person()])
            matches = find(association, query)
        studies = {text_of(m, "StudyInstanceUID"): m for m in matches if text_of(m, "StudyInstanceUID")}
        return [FoundStudy(uid, text_of(m, "StudyDate"), text_of(m, "ModalitiesInStudy")) for uid, m in studies.items()]

    def find_images(self, study_uid: str, modality: str) -> list[FoundImage]:
        """The images of a study: those of one modality, or all if ``modality`` is empty."""
        with self._remote.association([(FIND, ())]) as association:
            query = _query("SERIES", study_uid, SeriesInstanceUID="", Modality=modality)
            audit_query(self._audit, self._archive, query, [person()])
            all_series = find(association, query)
            images = []
            for series in all_series:
                if modality and text_of(series, "Modality") not in ("", modality):
                    continue
                uid = text_of(series, "SeriesInstanceUID")
                query = _query("IMAGE", study_uid, SeriesInstanceUID=uid, SOPInstanceUID="", SOPClassUID="")
                found = find(association, query)
                images += [FoundImage(uid, text_of(m, "SOPClassUID"), text_of(m, "SOPInstanceUID")) for m in found]
        return [image for image in images if image.sop_instance_uid]

    def fetch(self, study_uid: str, missing: Sequence[FoundImage]) -> list[str]:
        """Fetch the series of these images; returns what went wrong."""
        series = dict.fromkeys(image.series_uid for image in missing)
        queries = [_query("SERIES", study_uid, SeriesInstanceUID=uid) for uid in series]
        return self._move(queries) if self._archive.retrieve == "move" else self._get(study_uid, queries, missing)

    def _move(self, queries: Iterable[Dataset]) -> list[str]:
        own = self._settings.listener.ae_title
        with self._remote.association([(MOVE, ())]) as association:
            _be_patient(association)
            outcomes = [_outcome(association.send_c_move, query, own, MOVE) for query in queries]
        return [problem for problem in outcomes if problem]

    def _get(self, study_uid: str, queries: Iterable[Dataset], missing: Sequence[FoundImage]) -> list[str]:
        store = InstanceStore.of(self._settings, self._database)

        sender = Participant(self._archive.ae_title, SOURCE, address=self._archive.host)
        receiver = self._audit.node(DESTINATION, is_requestor=True)
        transfer = Transfer(self._audit, self._database, sender, receiver)

        def on_store(event: Any) -> int:
            event.assoc.dimse.is_storing = True
            try:
                status = self._keep(event, store, problems)
            finally:
                event.assoc.dimse.done()
            failure = f"refused with status 0x{status:04X}" if status else ""
            transfer.note(study_uid, str(event.request.AffectedSOPClassUID), failure)
            return status

        problems: list[str] = []
        budget = Budget.of(self._settings.listener)
        classes = sorted({image_class(image.sop_class_uid) for image in missing})
        handlers = [(evt.EVT_CONN_OPEN, lambda event: _bound(event.assoc, budget)), (evt.EVT_C_STORE, on_store)]
        with self._remote.association(_contexts(classes), as_scp=classes, handlers=handlers) as association:
            _be_patient(association)
            outcomes = [_outcome(association.send_c_get, query, GET) for query in queries]
        transfer.report()
        return [problem for problem in (*outcomes, *problems) if problem]

    def _keep(self, event: Any, store: InstanceStore, problems: list[str]) -> int:
        request, archive = event.request, self._archive
        if event.assoc.dimse.was_too_large(request.MessageID):
            problems.append("an object is over max_object_mb or max_memory_mb of [listener]")
            return store.refuse_too_large(request.AffectedSOPInstanceUID, archive.ae_title)
        return store.receive(Incoming.of(event, calling_ae=archive.ae_title, calling_address=archive.host))


def _contexts(classes: Sequence[str]) -> list[Context]:
    """The contexts for C-GET and for each class in each transfer syntax, as many as fit into one association."""
    each = max(1, (_MOST_CONTEXTS - 1) // len(classes))
    contexts: list[Context] = [(uid, (str(syntax),)) for syntax in _SYNTAXES[:each] for uid in classes]
    return [(GET, ()), *contexts[: _MOST_CONTEXTS - 1]]


def _bound(association: Any, budget: Budget) -> None:
    """Apply the listener's limits to what the archive sends."""
    association.dimse = BoundedDimse(association, budget)


def _be_patient(association: Any) -> None:
    association.dimse_timeout = association.network_timeout = _RETRIEVE_TIMEOUT_S


def _outcome(send: Callable[..., Iterable[tuple[Dataset, Any]]], *arguments: Any) -> str:
    """What went wrong with a C-MOVE or C-GET; empty if nothing did."""
    try:
        for status, _ in send(*arguments):
            if "Status" not in status:
                return "the association was aborted or timed out"
            if status.Status in PENDING or status.Status == 0:
                continue
            failed = status.get("NumberOfFailedSuboperations")
            said = f"status 0x{status.Status:04X}"
            return f"{failed} images failed ({said})" if failed or status.Status == _SOME_FAILED else said
    except (ValueError, RuntimeError, OSError, AttributeError) as error:
        return f"cannot be asked for images ({type(error).__name__}: no such service, or no association)"
    return ""


def _query(level: str, study_uid: str, **keys: str) -> Dataset:
    return query_of(level, {"StudyInstanceUID": study_uid, **keys})
