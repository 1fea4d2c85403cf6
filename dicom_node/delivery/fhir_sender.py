"""Sending a report to a FHIR server: a transaction, which the server takes whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import requests
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy import select

from dicom_node.database.connection import Database
from dicom_node.database.tables import ResultFile, ResultRow
from dicom_node.delivery.channel import Answer, Form, Offer, Outcome, Progress
from dicom_node.delivery.fhir_server import FhirServer, issue_codes, read_resource
from dicom_node.dicomweb.remote import WebRemote, refusal
from dicom_node.errors import DeliveryError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.web_destinations import FhirDestination
from spineone_core.findings import Detection

# HTTP statuses that are about the transaction: the same one gets the same answer again.
_HOPELESS = (400, 412, 413, 415, 422)
_TAGS = (
    "SpecificCharacterSet",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "StudyDate",
    "AccessionNumber",
    "PatientID",
    "PredecessorDocumentsSequence",
)


def judge(response: requests.Response) -> Answer | None:
    """What the answer to a transaction means; None if it is not about the transaction at all."""
    status, body = response.status_code, read_resource(response.content)
    if status in (200, 201):
        made = _status_of_report(body)
        if made.startswith("201"):
            return Answer(Outcome.SENT, 0, "created")
        if made.startswith("200"):
            return Answer(Outcome.SENT, 0, "was there already", was_there=True)
        return Answer(Outcome.SENT, 0, "taken, says the status; the answer does not name the report", was_there=True)
    if status in _HOPELESS:
        codes = ", ".join(issue_codes(body)) or "no code"
        return Answer(Outcome.FAILED, status, f"status {status}: the server refuses the report ({codes})")
    return None


def _status_of_report(answer: Mapping[str, Any]) -> str:
    """What became of the last entry of a transaction, which is the report; empty if the answer does not say."""
    entries = answer.get("entry")
    last = entries[-1] if isinstance(entries, list) and entries else None
    response = last.get("response") if isinstance(last, dict) else None
    return str(response.get("status", "")) if isinstance(response, dict) else ""


class FhirSender:
    """The `DeliveryChannel` to a FHIR server. It gets reports alone (`FhirDestination.takes`)."""

    def __init__(self, settings: NodeSettings, destination: FhirDestination, database: Database) -> None:
        self._settings = settings
        self._destination = destination
        self._database = database
        self._remote = WebRemote.of(settings, destination)

    def send(self, offers: Sequence[Offer], progress: Progress) -> None:
        """See `DeliveryChannel`. What is sent is made of the stored report and its findings.

        Raises
        ------
        DeliveryError
            If there is no answer, or one that is not about the report (a login that is refused, a server that is busy).
        """
        with self._remote.session() as session:
            server, is_reached = FhirServer(self._remote, session), False
            for offer in offers:
                body = self._body(offer.preferred, progress)
                if body is None:
                    continue
                response = server.transact(body)
                if not is_reached:
                    progress.begin()
                is_reached = True
                answer = judge(response)
                if answer is None:
                    raise DeliveryError(f"{self._remote.where}: FHIR: {refusal(response.status_code)}")
                progress.answer(offer.preferred, answer)

    def _body(self, form: Form, progress: Progress) -> bytes | None:
        """What is sent; None if it cannot be made, which is noted."""
        try:
            return self._bundle(form)
        except (ValueError, KeyError, TypeError, AttributeError, InvalidDicomError) as error:
            why = f"the report cannot be written as FHIR ({type(error).__name__})"
            progress.answer(form, Answer(Outcome.FAILED, None, why))
            return None

    def _bundle(self, form: Form) -> bytes:
        # What makes reports takes a second to load, and most deliveries have no FHIR server.
        from dicom_node.results.diagnostic_report import IdentifierSystems, report_bundle

        query = select(ResultRow).join(ResultFile).where(ResultFile.id == form.parcel.file_id)
        with self._database.read() as session:
            result = session.scalars(query).one()
        bundle = report_bundle(
            report=dcmread(form.path, specific_tags=list(_TAGS)),
            detection=Detection.from_json(json.loads(result.findings)),
            issued=result.created_at,
            systems=IdentifierSystems(self._destination.patient_system, self._destination.accession_system),
            grades=self._settings.results.grades,
        )
        return json.dumps(bundle, ensure_ascii=False).encode()
