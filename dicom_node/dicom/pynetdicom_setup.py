"""Our application entities, and pynetdicom's global switches, which are set whenever one is made.

Every association of the node, whether we open it or accept it, begins with `application_entity`, so that no process and
no command can run without the switches.
"""

from __future__ import annotations

import sys
import time

from pynetdicom import AE, _config, dul
from pynetdicom import ae as pynetdicom_ae
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket

from dicom_node.dicom.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


def application_entity(ae_title: str) -> AE:
    """An application entity of the node with this AE title, without contexts; pynetdicom's switches are set."""
    set_up_pynetdicom()
    ae = AE(ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    return ae


def set_up_pynetdicom() -> None:
    """Set pynetdicom's switches.

    They keep identifiers out of logs, turn expensive log handlers off, refuse private classes, and make pynetdicom send
    files without reading them whole. The time-outs of associations go by the monotonic clock, and a connection that
    fails says why. Setting the switches again changes nothing.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.UNRESTRICTED_STORAGE_SERVICE = False
    _config.STORE_SEND_CHUNKED_DATASET = True
    dul.Timer = MonotonicTimer
    pynetdicom_ae.AssociationSocket = TellingSocket


class TellingSocket(AssociationSocket):
    """pynetdicom's socket; ``failure`` of its association says why a connection could not be opened.

    pynetdicom 3 logs that error and forgets it: for the caller every such association was aborted.
    """

    def _shutdown_socket(self) -> None:
        error = sys.exception()
        if isinstance(error, OSError) and not self._is_connected:
            self._assoc.failure = error
        super()._shutdown_socket()


class MonotonicTimer(Timer):
    """pynetdicom's timer, which bounds idle associations and the ARTIM state (PS3.8 9.1.5), on the monotonic clock.

    pynetdicom 3 takes the time of day: when that is set back an hour, an idle association keeps its place for an hour
    more.
    """

    # Times of the monotonic clock (seconds); None before the start and before the stop.
    _start_time: float | None
    _end_time: float | None

    @property
    def remaining(self) -> float:
        """Seconds until the timer expires; negative afterwards. See `Timer`."""
        if self.timeout is None or self._start_time is None:
            return super().remaining
        until = time.monotonic() if self._end_time is None else self._end_time
        return self.timeout - (until - self._start_time)

    def start(self) -> None:
        """Reset the timer and start it."""
        self._start_time = time.monotonic()
        self._end_time = None

    def stop(self) -> None:
        """Stop the timer."""
        self._end_time = time.monotonic()
