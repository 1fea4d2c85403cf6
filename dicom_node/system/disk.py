"""Whether the disk of the data folder takes more files.

That needs bytes, names (inodes), and a file system and permissions that let this process write.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# A file system that can take fewer names (inodes) than this counts as full: each image needs one, each series a folder.
FEWEST_NAMES = 1000


class Room(NamedTuple):
    """What is free. ``names`` is None where the file system does not limit the number of files."""

    size: int
    names: int | None

    def lack(self, reserve: float) -> str:
        """What is lacking, with a reserve of so many bytes; empty if nothing is."""
        if self.size < reserve:
            return f"{self.size / 1e9:.1f} GB are free, {reserve / 1e9:g} GB are the reserve"
        if self.names is not None and self.names < FEWEST_NAMES:
            return f"the file system has room for {self.names} more files (inodes), {FEWEST_NAMES} are the reserve"
        return ""


def free_room(folder: Path) -> Room:
    """The free room for this process on the file system of a folder.

    Raises
    ------
    OSError
        If the folder cannot be read.
    """
    found = os.statvfs(folder)
    return Room(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def why_not_writable(folders: Iterable[Path]) -> str:
    """Why no file can be made in one of the folders; empty if one can be made in each. Folders that are not there are left out.

    A file without a name is made, as nothing less tells: a disk that had an error is read-only although its mount options and
    the permissions of the folder say otherwise.
    """
    for folder in folders:
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"nothing can be written in {folder.name} of the data folder ({error.strerror})"
    return ""
