"""Bodies of media type multipart/related (RFC 2046 5.1, RFC 2387), read block by block within limits.

The reader waits for nothing and keeps no part: whoever has the blocks feeds them and gets the parts' bytes as they came.
What could be read in two ways is refused, so that nobody on the way sees other parts than the node does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# RFC 2046 allows 70 characters. Orthanc's DICOMweb plugin sends 73, two UUIDs.
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)")
# Text before the first boundary is allowed and never used; spaces may follow a boundary in its line (bytes).
_LONGEST_PREAMBLE, _LONGEST_PADDING = 1024, 100


class MultipartError(Exception):
    """The body breaks the rules of its media type. The message holds nothing of the body."""


class TooMuchError(MultipartError):
    """The body is over a limit."""


@dataclass(frozen=True, slots=True)
class MultipartLimits:
    """What a body may hold.

    Parameters
    ----------
    most_parts
        Parts.
    most_bytes
        Bytes of the whole body, boundaries and heads included.
    most_of_part
        Bytes of one part's content. The rest of a longer one is dropped.
    most_of_head
        Bytes of one part's header fields.
    """

    most_parts: int
    most_bytes: int
    most_of_part: int
    most_of_head: int = 4096


@dataclass(frozen=True, slots=True)
class PartBegins:
    """A part's header fields by name in small letters."""

    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of a part, at least one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnds:
    """The part is over; it is whole unless it was longer than a part may be."""

    is_whole: bool


PartEvent = PartBegins | PartData | PartEnds


def is_boundary(text: str) -> bool:
    """Whether a text may be a boundary (RFC 2046 5.1.1, but up to 200 characters; no space at the end)."""
    return _BOUNDARY.fullmatch(text) is not None


class MultipartReader:
    """Reads one body.

    Parameters
    ----------
    boundary
        The boundary of the Content-Type header.
    limits
        What the body may hold.

    Raises
    ------
    MultipartError
        If the boundary is none.
    """

    def __init__(self, boundary: str, limits: MultipartLimits) -> None:
        if not is_boundary(boundary):
            raise MultipartError("the boundary is missing or no boundary")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._limits = limits
        # A boundary begins a line, the body's first too: its line end is put in.
        self._rest = b"\r\n"
        # How much of the rest belongs to the head: the end of its empty line may be that before the next boundary.
        self._of_head = 0
        self._state = self._read_preamble
        self._bytes = self._parts = self._of_part = 0
        self._is_over = False

    @property
    def is_over(self) -> bool:
        """Whether the last boundary has come."""
        return self._is_over

    def feed(self, block: bytes) -> Iterator[PartEvent]:
        """What a block of the body brings; the events must be taken before the next block is fed.

        Raises
        ------
        MultipartError
            If the body breaks a rule (`TooMuchError`: a limit); then nothing more can be read.
        """
        self._bytes += len(block)
        if self._bytes > self._limits.most_bytes:
            raise TooMuchError("the body is too large")
        if self._is_over:
            return
        self._rest += block
        before = None
        while before != (self._state, len(self._rest)) and not self._is_over:
            before = self._state, len(self._rest)
            yield from self._state()

    def close(self) -> None:
        """The body has ended.

        Raises
        ------
        MultipartError
            If it ended before its last boundary.
        """
        if not self._is_over:
            raise MultipartError("the body ends before its last boundary")

    def _read_preamble(self) -> Iterator[PartEvent]:
        at = self._rest.find(self._delimiter)
        if at < 0 and len(self._rest) > _LONGEST_PREAMBLE + len(self._delimiter):
            raise MultipartError("no boundary at the beginning of the body")
        if at >= 0:
            self._after_boundary(at)
        yield from ()

    def _read_head(self) -> Iterator[PartEvent]:
        if self._parts > self._limits.most_parts:
            raise TooMuchError("the body has too many parts")
        # A head without fields is the empty line alone.
        end = 0 if self._rest.startswith(b"\r\n") else self._rest.find(b"\r\n\r\n") + 2
        if end < 2 and not self._rest.startswith(b"\r\n"):
            if len(self._rest) > self._limits.most_of_head:
                raise TooMuchError("the header fields of a part are too long")
            return
        if end > self._limits.most_of_head:
            raise TooMuchError("the header fields of a part are too long")
        fields = _fields(self._rest[:end])
        self._rest, self._of_head, self._of_part = self._rest[end:], 2, 0
        self._state = self._read_content
        yield PartBegins(fields)

    def _read_content(self) -> Iterator[PartEvent]:
        at = self._rest.find(self._delimiter)
        end = at if at >= 0 else len(self._rest) - len(self._delimiter) + 1
        if end > self._of_head:
            content, self._rest, self._of_head = self._rest[self._of_head : end], self._rest[end:], 0
            room = self._limits.most_of_part - self._of_part
            self._of_part += len(content)
            if room > 0:
                yield PartData(content[:room])
            at = 0 if at >= 0 else -1
        if at >= 0 and self._after_boundary(at):
            yield PartEnds(self._of_part <= self._limits.most_of_part)

    def _after_boundary(self, at: int) -> bool:
        """Read the end of the boundary's line, at which the rest has a delimiter; False if it has not come yet."""
        line = self._rest[at + len(self._delimiter) :]
        if line.startswith(b"--"):
            self._is_over, self._rest = True, b""
            return True
        padding = line[: len(line) - len(line.lstrip(b" \t"))]
        if len(line) - len(padding) < 2:
            is_begun = line == b"-" or b"\r\n".startswith(line[len(padding) :])
            if len(padding) > _LONGEST_PADDING or not is_begun:
                raise MultipartError("a boundary is followed by something else")
            return False
        if not line.startswith(b"\r\n", len(padding)):
            raise MultipartError("a boundary is followed by something else")
        self._parts += 1
        self._rest, self._state = line[len(padding) + 2 :], self._read_head
        return True


def _fields(head: bytes) -> dict[str, str]:
    """Header fields by name in small letters."""
    fields: dict[str, str] = {}
    try:
        lines = head.decode("ascii").split("\r\n")[:-1]
    except UnicodeDecodeError:
        raise MultipartError("the header fields of a part are not ASCII") from None
    for line in filter(None, lines):
        match = _FIELD.fullmatch(line)
        if match is None or match[1].lower() in fields:
            raise MultipartError("the header fields of a part cannot be read, or one is there twice")
        fields[match[1].lower()] = match[2].strip()
    return fields
