"""A receiving PACS: pynetdicom's SCP that answers what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

SR = "1.2.840.10008.5.1.4.1.1.88.34"
SR_2D = "1.2.840.10008.5.1.4.1.1.88.33"
SC = "1.2.840.10008.5.1.4.1.1.7"


class FakePacs:
    """Keeps the bytes of what it stored; ``answer`` is a status, or does anything else with the event."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, bytes]] = []
        self.associations = 0
        self.answer: int | Callable[[Any], int] = 0x0000

    def on_store(self, event: Any) -> int:
        status = self.answer(event) if callable(self.answer) else self.answer
        if status == 0 or status >> 12 == 0xB:
            self.stored.append((str(event.request.AffectedSOPInstanceUID), event.encoded_dataset(include_meta=False)))
        return status

    def on_established(self, event: Any) -> None:
        self.associations += 1

    @property
    def uids(self) -> list[str]:
        return [uid for uid, _ in self.stored]


@contextmanager
def running_pacs(
    port: int, *, classes: tuple[str, ...] = (SR, SC), ae_title: str = "PACS", pacs: FakePacs | None = None
) -> Iterator[FakePacs]:
    """A PACS on a port of this machine."""
    pacs = pacs or FakePacs()
    ae = AE(ae_title)
    ae.require_called_aet = True
    ae.add_supported_context(Verification)
    for uid in classes:
        ae.add_supported_context(uid)
    handlers = [(evt.EVT_C_STORE, pacs.on_store), (evt.EVT_ESTABLISHED, pacs.on_established)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield pacs
    finally:
        server.shutdown()
