"""The one place where paths are made from names and where bytes become durable."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from dicom_node.errors import UnsafePathError

_making_folders = threading.Lock()
_SAFE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,120}")


def safe_path(root: Path, *names: str) -> Path:
    """The path of ``names`` below ``root``.

    Raises
    ------
    UnsafePathError
        If a name contains anything but letters, digits, ``.``, ``_`` and ``-``, does not begin with a letter or a
        digit, or is longer than 121 characters.
    """
    for name in names:
        if not _SAFE_NAME.fullmatch(name):
            raise UnsafePathError(f"{name[:80]!r} cannot be part of a file name")
    return root.joinpath(*names)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; each new entry is on disk when this returns."""
    missing = []
    current = folder
    # Another thread may have made a folder without having synced it yet; that folder must not be taken for durable.
    with _making_folders:
        while not current.is_dir():
            missing.append(current)
            current = current.parent
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and new entries in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_spool_file(spool: Path, parts: tuple[bytes, ...]) -> Path:
    """Write and fsync a new file in ``spool``; a failed write leaves nothing behind.

    Raises
    ------
    OSError
        If the disk is full or cannot be written.
    """
    path = spool / f"{uuid4().hex}.tmp"
    try:
        with path.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return path


def move_into_place(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target`` (same file system) and make the rename durable."""
    make_folder(target.parent)
    source.replace(target)
    sync_folder(target.parent)


def write_atomically(target: Path, data: bytes) -> None:
    """Write a file that is either complete or absent, and durable when this returns."""
    make_folder(target.parent)
    spooled = write_spool_file(target.parent, (data,))
    move_into_place(spooled, target)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 lower-case hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def exclusive_lock(path: Path) -> Iterator[bool]:
    """Hold an advisory lock on ``path``; yields False if another process holds it. The lock ends with the process."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
