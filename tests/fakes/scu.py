"""A sender: pynetdicom's SCU with the contexts a test needs."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE
from pynetdicom.sop_class import Verification


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def association(
    port: int,
    *,
    calling: str = "TEST",
    called: str = "SPINEONE",
    classes: tuple[str, ...] = (MRImageStorage,),
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian,),
    timeout: float = 10,
    tls: Any = None,
) -> Iterator[Any]:
    """An association, established or not; released or aborted at the end."""
    ae = AE(calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout
    ae.add_requested_context(Verification)
    for uid in classes:
        for syntax in syntaxes:
            ae.add_requested_context(uid, syntax)
    opened = ae.associate("127.0.0.1", port, ae_title=called, tls_args=tls)
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()


def send(port: int, *datasets: Dataset, **options: Any) -> list[int]:
    """Send data sets on one association; the statuses (-1 for none)."""
    classes = tuple({str(d.SOPClassUID) for d in datasets})
    syntaxes = tuple({str(d.file_meta.TransferSyntaxUID) for d in datasets})
    with association(port, classes=classes, syntaxes=syntaxes, **options) as opened:
        assert opened.is_established
        return [int(getattr(opened.send_c_store(d), "Status", -1)) for d in datasets]
