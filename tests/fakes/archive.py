"""Archives: one answers C-FIND with how many images a study has, one sends images by C-GET."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    MRImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from tests.fakes.scu import free_port


class FakeArchive:
    """Knows series by (study, series): modality and number of images."""

    def __init__(self) -> None:
        self.port = free_port()
        self.series: dict[tuple[str, str], tuple[str, int]] = {}
        # Whether it fills in NumberOfSeriesRelatedInstances, an optional key (PS3.4 C.6.2.1.3).
        self.gives_numbers = True
        self.status = 0x0000
        self.delay_s = 0.0
        self.levels: list[str] = []

    def on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        self.levels.append(query.QueryRetrieveLevel)
        time.sleep(self.delay_s)
        for (study, series), (modality, number) in self.series.items():
            if study != query.StudyInstanceUID or query.SeriesInstanceUID not in ("", series):
                continue
            for count in range(number) if query.QueryRetrieveLevel == "IMAGE" else [0]:
                yield 0xFF00, self._match(query, series, modality, number, count)
        if self.status:
            yield self.status, None

    def _match(self, query: Dataset, series: str, modality: str, number: int, count: int) -> Dataset:
        match = Dataset()
        match.QueryRetrieveLevel = query.QueryRetrieveLevel
        match.SeriesInstanceUID = series
        match.Modality = modality
        if query.QueryRetrieveLevel == "IMAGE":
            match.SOPInstanceUID = f"{series}.{count}"
        elif self.gives_numbers:
            match.NumberOfSeriesRelatedInstances = number
        return match


@contextmanager
def running_archive() -> Iterator[FakeArchive]:
    """An archive on its own port, AE title ARCHIVE."""
    archive, ae = FakeArchive(), AE("ARCHIVE")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    server = ae.start_server(("127.0.0.1", archive.port), block=False, evt_handlers=[(evt.EVT_C_FIND, archive.on_find)])
    assert server is not None
    try:
        yield archive
    finally:
        server.shutdown()


@contextmanager
def sending_archive(objects: Sequence[Dataset]) -> Iterator[int]:
    """An archive of one series, AE title ARCHIVE, that sends everything it has at any C-GET; its port."""

    def on_find(event: Any) -> Iterator[tuple[int, Dataset]]:
        level = event.identifier.QueryRetrieveLevel
        for found in objects if level == "IMAGE" else objects[:1]:
            match = Dataset()
            match.QueryRetrieveLevel, match.Modality = level, "MR"
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID"):
                setattr(match, keyword, found[keyword].value)
            yield 0xFF00, match

    def on_get(event: Any) -> Iterator[Any]:
        yield len(objects)
        for wanted in objects:
            yield 0xFF00, wanted

    ae, port = AE("ARCHIVE"), free_port()
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
    ae.add_supported_context(MRImageStorage, scu_role=True, scp_role=True)
    handlers = [(evt.EVT_C_FIND, on_find), (evt.EVT_C_GET, on_get)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield port
    finally:
        server.shutdown()
