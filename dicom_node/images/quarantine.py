"""The folder for objects that are kept but not used: refused ones, and those that contradict what is here."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from dicom_node.system.files import move_into_place, safe_path, write_spool_file

# How long a sum of the folder is good (seconds): other processes write there too, and people take files out.
_SUM_IS_GOOD_S = 60.0
# The least that a file takes on the disk.
_BLOCK = 4096


class Quarantine:
    """Keeps files up to a limit; what was kept is never deleted.

    Parameters
    ----------
    data_dir
        The node's data folder.
    most_bytes
        How large all files together may become.
    """

    def __init__(self, data_dir: Path, most_bytes: int) -> None:
        self.folder = data_dir / "quarantine"
        self._spool = data_dir / "spool"
        self._most = most_bytes
        self._lock = threading.Lock()
        self._sum, self._summed_at = 0, -_SUM_IS_GOOD_S

    def keep(self, sha256: str, parts: tuple[bytes, ...]) -> Path | None:
        """Keep an object durably under its digest; None if there is no room for it."""
        target = safe_path(self.folder, f"{sha256[:32]}.dcm")
        if not target.exists() and not self._take(sum(map(len, parts))):
            return None
        move_into_place(write_spool_file(self._spool, parts), target)
        return target

    def _take(self, size: int) -> bool:
        with self._lock:
            now = time.monotonic()
            if now - self._summed_at >= _SUM_IS_GOOD_S:
                self._sum, self._summed_at = _size_of(self.folder), now
            if self._sum + max(size, _BLOCK) > self._most:
                return False
            self._sum += max(size, _BLOCK)
            return True


def _size_of(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(max(entry.stat().st_size, _BLOCK) for entry in entries if entry.is_file(follow_symlinks=False))
