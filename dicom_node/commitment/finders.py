"""Looking at a destination for what was sent to it: one way for each kind of destination."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.audit.log import AuditLog
from dicom_node.audit.transfers import audit_query
from dicom_node.delivery.fhir_server import FhirServer
from dicom_node.delivery.outbox import Parcel
from dicom_node.dicom.query import FIND, find, query_of
from dicom_node.dicom.remote import RemoteAE
from dicom_node.dicomweb.qido import QidoClient
from dicom_node.dicomweb.remote import WebRemote
from dicom_node.settings.node import AnyDestination, NodeSettings
from dicom_node.settings.sections import Destination
from dicom_node.settings.web_destinations import DicomWebDestination, FhirDestination


class Finder(Protocol):
    """Looks at one destination."""

    def look(self, parcels: Sequence[Parcel]) -> Iterator[tuple[Parcel, bool]]:
        """For each of these parcels of one study, whether the destination shows the object.

        Raises
        ------
        DeliveryError
            If it does not answer.
        """


class FindFinder:
    """C-FIND, study root, level IMAGE."""

    def __init__(self, settings: NodeSettings, destination: Destination, audit: AuditLog) -> None:
        self._settings = settings
        self._destination = destination
        self._audit = audit

    def look(self, parcels: Sequence[Parcel]) -> Iterator[tuple[Parcel, bool]]:
        """See `Finder`. All questions go over one association."""
        with RemoteAE.of(self._settings, self._destination).association([(FIND, ())]) as association:
            audit_query(self._audit, self._destination, query_for(self._settings.data_dir, parcels[0]))
            for parcel in parcels:
                matches = find(association, query_for(self._settings.data_dir, parcel))
                yield parcel, any(str(match.get("SOPInstanceUID")) == parcel.sop_instance_uid for match in matches)


class QidoFinder:
    """QIDO-RS, instances of a series."""

    def __init__(self, settings: NodeSettings, destination: DicomWebDestination, audit: AuditLog) -> None:
        self._settings = settings
        self._destination = destination
        self._audit = audit

    def look(self, parcels: Sequence[Parcel]) -> Iterator[tuple[Parcel, bool]]:
        """See `Finder`."""
        remote = WebRemote.of(self._settings, self._destination)
        with remote.session() as session:
            client = QidoClient(remote, session)
            for number, parcel in enumerate(parcels):
                query = query_for(self._settings.data_dir, parcel)
                is_there = client.holds(parcel.study_uid, str(query.SeriesInstanceUID), parcel.sop_instance_uid)
                if number == 0:
                    audit_query(self._audit, self._destination, query)
                yield parcel, is_there


class FhirFinder:
    """A search for DiagnosticReports by identifier."""

    def __init__(self, settings: NodeSettings, destination: FhirDestination, audit: AuditLog) -> None:
        self._remote = WebRemote.of(settings, destination)
        self._settings = settings
        self._audit = audit

    def look(self, parcels: Sequence[Parcel]) -> Iterator[tuple[Parcel, bool]]:
        """See `Finder`."""
        with self._remote.session() as session:
            server = FhirServer(self._remote, session)
            for number, parcel in enumerate(parcels):
                is_there = server.has_report(parcel.sop_instance_uid)
                if number == 0:
                    audit_query(self._audit, self._remote.server, query_for(self._settings.data_dir, parcel))
                yield parcel, is_there


# By the kind of the destination.
FINDERS: dict[str, Callable[..., Finder]] = {"dicom": FindFinder, "dicomweb": QidoFinder, "fhir": FhirFinder}


def finder_for(settings: NodeSettings, destination: AnyDestination, audit: AuditLog) -> Finder:
    """The way to look at a destination. Nothing is opened before it is asked."""
    return FINDERS[destination.kind](settings, destination, audit)


def query_for(data_dir: Path, parcel: Parcel) -> Dataset:
    """A query for one object: the hierarchical search of PS3.4 C.4.1.3.1.1 needs the unique keys above it."""
    stored = dcmread(data_dir / parcel.path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    keys = {
        "StudyInstanceUID": parcel.study_uid,
        "SeriesInstanceUID": str(stored.SeriesInstanceUID),
        "SOPInstanceUID": parcel.sop_instance_uid,
    }
    return query_of("IMAGE", keys)
