"""The folder for objects that are kept but not used: refused ones, and those that contradict what is here.

Each file has a note in a folder of its own, which says why it was put aside, when, and who had sent it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from dicom_node.errors import NodeError
from dicom_node.system.clock import utc_now
from dicom_node.system.files import move_into_place, safe_path, sync_folder, write_atomically, write_spool_file
from dicom_node.system.log import printable

# How long a sum of the folder is good (seconds): other processes write there too, and people take files out.
_SUM_IS_GOOD_S = 60.0
# The least that a file takes on the disk; a note takes that too.
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Note:
    """Why a file is in quarantine.

    Parameters
    ----------
    why
        The reason, without values of the data set.
    calling_ae
        Who sent it; empty if that is not known.
    kept_at
        When it came, ISO 8601, UTC; empty if that is not known.
    """

    why: str
    calling_ae: str = ""
    kept_at: str = ""

    @staticmethod
    def of(why: str, calling_ae: str) -> Note:
        """The note of an object that is put aside now."""
        return Note(why, printable(calling_ae), utc_now().isoformat(timespec="seconds"))


class Quarantine:
    """Keeps files up to a limit; what was kept leaves it only by a person's command.

    Parameters
    ----------
    data_dir
        The node's data folder.
    most_bytes
        How large all files together, with their notes, may become.
    """

    def __init__(self, data_dir: Path, most_bytes: int = 0) -> None:
        self.folder = data_dir / "quarantine"
        self._notes = data_dir / "quarantine-notes"
        self._spool = data_dir / "spool"
        self._most = most_bytes
        self._lock = threading.Lock()
        self._sum, self._summed_at = 0, -_SUM_IS_GOOD_S

    def keep(self, sha256: str, parts: tuple[bytes, ...], note: Note) -> Path | None:
        """Keep an object durably under its digest; None if there is no room for it.

        One that is here already stays with the time at which it came first.
        """
        target = self._place(sha256)
        first = self.note_of(target) if target.exists() else None
        if not target.exists() and not self._take(_cost(sum(map(len, parts)))):
            return None
        self._write_note(target, note if first is None else replace(note, kept_at=first.kept_at))
        move_into_place(write_spool_file(self._spool, parts), target)
        return target

    def take_in(self, path: Path, sha256: str, note: Note) -> Path:
        """Move a file of the data folder here, whatever the limit: it takes no more room than before."""
        target = self._place(sha256)
        self._write_note(target, note)
        move_into_place(path, target)
        return target

    def files(self) -> Iterator[Path]:
        """Every file, the oldest first."""
        with os.scandir(self.folder) as entries:
            found = [(entry.stat().st_mtime, entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]
        yield from (Path(path) for _, path in sorted(found))

    def named(self, name: str) -> Path:
        """The file that a person means: its name, or a beginning that only one file has.

        Raises
        ------
        NodeError
            If no file or more than one has it.
        """
        found = [path for path in self.files() if name and path.name.startswith(name)]
        exact = [path for path in found if path.name == name]
        if len(exact or found) != 1:
            several = f"several files in quarantine begin with {name!r}"
            raise NodeError(several if found else f"there is no file {name!r} in quarantine")
        return (exact or found)[0]

    def note_of(self, path: Path) -> Note | None:
        """Why a file is here; None if no note says it (releases before this one wrote none)."""
        try:
            said = json.loads(self._note(path).read_text(encoding="utf-8"))
            return Note(**{key: str(said[key]) for key in ("why", "calling_ae", "kept_at")})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove(self, path: Path) -> None:
        """Delete a file and its note; durable when this returns."""
        path.unlink(missing_ok=True)
        sync_folder(self.folder)
        self._note(path).unlink(missing_ok=True)

    def _place(self, sha256: str) -> Path:
        return safe_path(self.folder, f"{sha256[:32]}.dcm")

    def _note(self, path: Path) -> Path:
        return self._notes / f"{path.stem}.json"

    def _write_note(self, target: Path, note: Note) -> None:
        write_atomically(self._note(target), json.dumps(asdict(note)).encode())

    def _take(self, cost: int) -> bool:
        with self._lock:
            now = time.monotonic()
            if now - self._summed_at >= _SUM_IS_GOOD_S:
                self._sum, self._summed_at = _size_of(self.folder), now
            if self._sum + cost > self._most:
                return False
            self._sum += cost
            return True


def kept_at(path: Path, note: Note | None) -> datetime:
    """When a file was put aside: as its note says, or else its time on the disk."""
    if note is not None and note.kept_at:
        return datetime.fromisoformat(note.kept_at)
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone()


def _cost(size: int) -> int:
    return max(size, _BLOCK) + _BLOCK


def _size_of(folder: Path) -> int:
    with os.scandir(folder) as entries:
        return sum(_cost(entry.stat().st_size) for entry in entries if entry.is_file(follow_symlinks=False))
