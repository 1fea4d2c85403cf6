"""What an archive may answer to a query: each match has a bound, and pynetdicom parses none that is over it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.dicom import query
from dicom_node.dicom.query import FIND, find, query_of
from dicom_node.dicom.remote import RemoteAE
from dicom_node.errors import DeliveryError
from dicom_node.settings.sections import Archive
from tests.fakes.scu import free_port

LIMIT = 256 * 1024


@contextmanager
def answering(size: int, matches: int = 1) -> Iterator[RemoteAE]:
    """An archive with so many studies, each of whose matches is so many bytes long."""

    def on_find(event: Any) -> Iterator[tuple[int, Dataset]]:
        match = Dataset()
        match.QueryRetrieveLevel, match.StudyInstanceUID = "STUDY", "1.2.3"
        # Empty items: the kind of bytes that cost most when they are parsed.
        match.ReferencedStudySequence = [Dataset() for _ in range(size // 8)]
        for _ in range(matches):
            yield 0xFF00, match

    ae, port = AE("ARCHIVE"), free_port()
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_FIND, on_find)])
    assert server is not None
    try:
        archive = Archive(name="pacs", ae_title="ARCHIVE", host="127.0.0.1", port=port)
        yield RemoteAE(archive, calling_ae="SPINEONE", timeout_s=5)
    finally:
        server.shutdown()


def ask(archive: RemoteAE) -> list[Dataset]:
    with archive.association([(FIND, ())]) as association:
        return find(association, query_of("STUDY", {"StudyInstanceUID": "1.2.3"}))


def test_match__of_ordinary_length_is_read() -> None:
    with answering(LIMIT - 1000) as archive:
        (match,) = ask(archive)
    assert match.StudyInstanceUID == "1.2.3"


def test_match__that_is_too_long_is_not_parsed() -> None:
    """The association is cut, and the query has failed when its time-out is over."""
    with answering(LIMIT + 1000) as archive, pytest.raises(DeliveryError, match="no answer to C-FIND"):
        ask(archive)


def test_matches__have_a_largest_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "_MOST_MATCHES", 5)
    with answering(100, matches=5) as archive:
        assert len(ask(archive)) == 5
    with answering(100, matches=6) as archive, pytest.raises(DeliveryError, match="more than 5 matches"):
        ask(archive)
