"""The body of a ``multipart/related`` request (RFC 2387, PS3.18 8.6): files, byte for byte, read while they are sent."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

DICOM = "application/dicom"
_BLOCK = 65536


class MultipartWriter:
    """A readable body with a known length; each part is a whole file.

    Parameters
    ----------
    paths
        The parts. Their sizes are taken now.
    media_type
        That of every part.
    """

    def __init__(self, paths: Sequence[Path], media_type: str = DICOM) -> None:
        self._media_type = media_type
        # No file holds 122 random bits by chance.
        self._boundary = f"spineone-{uuid.uuid4().hex}"
        self._sizes = [(path, path.stat().st_size) for path in paths]
        head = f"--{self._boundary}\r\nContent-Type: {media_type}\r\n\r\n".encode()
        self._heads = [head if number == 0 else b"\r\n" + head for number in range(len(paths))]
        self._end = f"\r\n--{self._boundary}--\r\n".encode()
        self._blocks = self._all_blocks()
        self._rest = b""

    @property
    def content_type(self) -> str:
        """The value of the request's Content-Type header."""
        return f'multipart/related; type="{self._media_type}"; boundary={self._boundary}'

    def __len__(self) -> int:
        """The size in bytes."""
        return sum(map(len, self._heads)) + sum(size for _, size in self._sizes) + len(self._end)

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(_BLOCK):
            yield block

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most ``size`` of them; empty at the end.

        Raises
        ------
        OSError
            If a file cannot be read, or no longer has the size that it had.
        """
        while size < 0 or not self._rest:
            block = next(self._blocks, b"")
            if not block:
                break
            self._rest += block
        taken, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return taken

    def _all_blocks(self) -> Iterator[bytes]:
        for head, (path, size) in zip(self._heads, self._sizes, strict=True):
            yield head
            with path.open("rb") as file:
                yield from _exactly(file, size)
        yield self._end


def _exactly(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The blocks of a file that has this size. A length that was announced is kept to, or the request breaks off."""
    left = size
    while left:
        block = file.read(min(_BLOCK, left))
        if not block:
            raise OSError("a file became shorter while it was sent")
        left -= len(block)
        yield block
    if file.read(1):
        raise OSError("a file became longer while it was sent")
