"""The audit log's files on disk, and how much of them the repository has."""

from __future__ import annotations

from pathlib import Path

# The file with the position up to which the repository has everything.
SENT = "sent"
PREFIX, SUFFIX = "audit-", ".log"


def files(folder: Path) -> list[Path]:
    """The log's files, oldest first."""
    return sorted(path for path in folder.glob(f"{PREFIX}*{SUFFIX}") if number_of(path))


def number_of(path: Path) -> int:
    """The number in a file's name; 0 for another file."""
    text = path.name.removeprefix(PREFIX).removesuffix(SUFFIX)
    return int(text) if text.isdecimal() else 0


def read_position(folder: Path) -> tuple[int, int]:
    """The file number and the offset up to which the repository has everything; zeros if nothing was sent yet."""
    try:
        number, offset = (folder / SENT).read_text().split()
        return int(number), int(offset)
    except (OSError, ValueError):
        return 0, 0
