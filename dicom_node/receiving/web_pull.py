"""Pulling by HTTP: QIDO-RS says what there is, and WADO-RS brings it, series by series.

What comes is kept as a part of STOW-RS is (`parts`): under the same limits, and byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dicom_node.audit.log import AuditLog
from dicom_node.audit.message import DESTINATION, SOURCE, Participant
from dicom_node.audit.people import person
from dicom_node.audit.transfers import Transfer, audit_query
from dicom_node.database.connection import Database
from dicom_node.dicom.budget import Budget
from dicom_node.dicom.headers import shown_uid
from dicom_node.dicom.query import query_of
from dicom_node.dicomweb.multipart_reader import MultipartLimits, PartEvent
from dicom_node.dicomweb.qido import QidoClient, value_of
from dicom_node.dicomweb.remote import WebRemote
from dicom_node.dicomweb.store_answer import CLASS_NOT_SUPPORTED, SYNTAX_NOT_SUPPORTED, StoreAnswer
from dicom_node.dicomweb.wado import RetrieveLimits, retrieve_series
from dicom_node.errors import DeliveryError
from dicom_node.images.incoming import CANNOT_UNDERSTAND, MISMATCH, OUT_OF_RESOURCES
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.found import FoundImage, FoundStudy
from dicom_node.receiving.parts import Parts
from dicom_node.receiving.visits import Requestor, Visit
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.web_destinations import DicomWebArchive

# An archive may fetch a series from a tape, or make the whole answer, before it says anything (seconds).
_SILENCE_S = 600.0
# Time for the body of one series (seconds): 500 MB at about 1 Mbit/s.
_LONGEST_S = 4000.0
_WHY_REFUSED = {
    OUT_OF_RESOURCES: "over max_object_mb or max_memory_mb of [listener] or a limit of [study], or no room",
    MISMATCH: "its UIDs or transfer syntax contradict the request or the part",
    CANNOT_UNDERSTAND: "no DICOM file that can be read",
    CLASS_NOT_SUPPORTED: "its SOP class is not accepted",
    SYNTAX_NOT_SUPPORTED: "its transfer syntax is not accepted",
}
_MOST_NAMED = 3
# The index has room for so much of an address; a host name may be longer.
_LONGEST_ADDRESS = 64


class WebPull:
    """Finds and fetches studies of one archive. Every method raises `DeliveryError` if the archive cannot be asked.

    Parameters
    ----------
    settings
        The settings of the whole node.
    database
        Where what comes is indexed.
    archive
        The archive to ask.
    """

    def __init__(self, settings: NodeSettings, database: Database, archive: DicomWebArchive) -> None:
        self._settings = settings
        self._database = database
        self._archive = archive
        self._audit = AuditLog(settings)
        self._remote = WebRemote.of(settings, archive)
        self._budget = Budget.of(settings.listener)

    def find_studies(self, keys: Mapping[str, str]) -> list[FoundStudy]:
        """The studies that match keywords and values; none twice."""
        with self._remote.session() as session:
            audit_query(self._audit, self._archive, query_of("STUDY", keys), [person()])
            matches = QidoClient(self._remote, session).studies(keys)
        named = [(value_of(match, "StudyInstanceUID"), match) for match in matches]
        return [FoundStudy(uid, value_of(m, "StudyDate"), value_of(m, "ModalitiesInStudy")) for uid, m in named if uid]

    def find_images(self, study_uid: str, modality: str) -> list[FoundImage]:
        """The images of a study: those of one modality, or all if ``modality`` is empty."""
        images = []
        with self._remote.session() as session:
            query = query_of("SERIES", {"StudyInstanceUID": study_uid, "Modality": modality})
            audit_query(self._audit, self._archive, query, [person()])
            qido = QidoClient(self._remote, session)
            for series in qido.series(study_uid, modality):
                uid = value_of(series, "SeriesInstanceUID")
                for match in qido.instances(study_uid, uid):
                    images.append(FoundImage(uid, value_of(match, "SOPClassUID"), value_of(match, "SOPInstanceUID")))
        return images

    def fetch(self, study_uid: str, missing: Sequence[FoundImage]) -> list[str]:
        """Fetch the series of these images; returns what went wrong. A series that fails holds up no other."""
        sender = Participant(self._archive.title, SOURCE, address=self._archive.host)
        receiver = self._audit.node(DESTINATION, is_requestor=True)
        transfer = Transfer(self._audit, self._database, sender, receiver)
        store = InstanceStore.of(self._settings, self._database)
        problems: list[str] = []
        with self._remote.session() as session:
            for series_uid in dict.fromkeys(image.series_uid for image in missing):
                if lack := store.why_no_room():
                    problems.append(f"no image can be kept: {lack}")
                    break
                parts = self._parts(store, study_uid, transfer)
                problems += self._take(
                    retrieve_series(self._remote, session, study_uid, series_uid, self._limits()), parts
                )
        transfer.report()
        return problems

    def _parts(self, store: InstanceStore, study_uid: str, transfer: Transfer) -> Parts:
        """What keeps the objects of one series. Memory and log know them by the archive's name, as by a sender's AE title."""

        def note(study: str, sop_class: str, status: int) -> None:
            transfer.note(study, shown_uid(sop_class), f"refused with status 0x{status:04X}" if status else "")

        visit = Visit(Requestor(self._archive.name, self._archive.host[:_LONGEST_ADDRESS]))
        return Parts(visit, store, self._budget, note, study_uid)

    def _take(self, events: Iterator[PartEvent], parts: Parts) -> list[str]:
        """Keep what comes, up to where the answer ends or breaks off; returns what went wrong."""
        problems = []
        try:
            for event in events:
                if (step := parts.take(event)) is not None:
                    step()
        except DeliveryError as error:
            problems.append(str(error))
        finally:
            parts.visit.is_over = True
            self._budget.give_back(parts.visit)
        return [*problems, *_refused(parts.answer)]

    def _limits(self) -> RetrieveLimits:
        """No answer may have more than a study may."""
        study = self._settings.study
        body = MultipartLimits(
            most_parts=study.max_images, most_bytes=int(study.max_gb * 1e9), most_of_part=self._budget.most_each
        )
        return RetrieveLimits(body, silence_s=_SILENCE_S, longest_s=_LONGEST_S)


def _refused(answer: StoreAnswer) -> list[str]:
    """The refused objects in words, one text for each reason; the first ones by name."""
    problems = []
    for reason in dict.fromkeys(reason for _, reason in answer.failed):
        uids = [told.sop_instance_uid for told, why in answer.failed if why == reason]
        named = ", ".join(list(filter(None, uids))[:_MOST_NAMED])
        text = f"{len(uids)} refused with status 0x{reason:04X} ({_WHY_REFUSED.get(reason, 'see the log')})"
        problems.append(f"{text}: {named}" if named else text)
    return problems
