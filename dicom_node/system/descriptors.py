"""What a server notices when the process has no file descriptor left for one more connection."""

from __future__ import annotations

import errno
import time

from dicom_node.system.log import get_logger

_KINDS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SAY_AGAIN_S = 60.0


class Shortage:
    """Says in the log that descriptors are short, at most once a minute: accepting fails again at once each time."""

    def __init__(self) -> None:
        self._said_at = float("-inf")

    def is_why(self, error: BaseException | None) -> bool:
        """Whether accepting failed because descriptors (or the kernel's memory for a socket) are short; then it is said."""
        if not isinstance(error, OSError) or error.errno not in _KINDS:
            return False
        if time.monotonic() - self._said_at >= SAY_AGAIN_S:
            self._said_at = time.monotonic()
            get_logger().error("no_descriptor", error=errno.errorcode[error.errno])
        return True
