"""multipart/related bodies: whatever the blocks, the parts' bytes come out as they went in, or the body is refused."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.dicomweb.multipart_reader import (
    MultipartError,
    MultipartLimits,
    MultipartReader,
    PartBegins,
    PartData,
    PartEnds,
    TooMuchError,
)

LIMITS = MultipartLimits(most_parts=50, most_bytes=100_000, most_of_part=20_000, most_of_head=200)
HEAD = "Content-Type: application/dicom\r\n"


def body(*parts: bytes, boundary: str = "b", head: str = HEAD, first: str = "", end: str = "--\r\n") -> bytes:
    """A multipart body; the parts have one head."""
    made = first.encode()
    for part in parts:
        made += f"--{boundary}\r\n{head}\r\n".encode() + part + b"\r\n"
    return made + f"--{boundary}{end}".encode()


def read(
    blocks: Iterable[bytes], boundary: str = "b", limits: MultipartLimits = LIMITS
) -> list[tuple[dict[str, str], bytes, bool]]:
    """Header fields, bytes and wholeness of each part."""
    reader, parts = MultipartReader(boundary, limits), []
    for block in blocks:
        for event in reader.feed(block):
            if isinstance(event, PartBegins):
                fields, data = dict(event.fields), b""
            elif isinstance(event, PartData):
                assert event.data
                data += event.data
            else:
                assert isinstance(event, PartEnds)
                parts.append((fields, data, event.is_whole))
    reader.close()
    return parts


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 100_000])
@pytest.mark.parametrize("first", ["", "\r\n", "a preamble\r\n"])
def test_parts__come_out_as_they_went_in(size: int, first: str) -> None:
    parts = [
        b"one",
        b"",
        b"\r\n",
        b"\r\n--",
        b"--b",
        b"\r\n--c\r\n\r\n",
        bytes(range(256)),
        b"\r\n\r\n--\r\n-",
        b"x" * 5000,
    ]
    # A line that begins with the boundary would be one: a sender chooses another boundary.
    parts.remove(b"--b")
    found = read(cut(body(*parts, first=first), size))
    assert [data for _, data, _ in found] == parts
    assert all(fields == {"content-type": "application/dicom"} and whole for fields, _, whole in found)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=300).map(lambda b: b.replace(b"\r\n--b", b"")), max_size=8), st.integers(0, 2**32))
def test_parts__any_bytes_in_any_blocks(parts: list[bytes], seed: int) -> None:
    data, sizes = body(*(part.replace(b"--b", b"") for part in parts)), random.Random(seed)
    blocks, at = [], 0
    while at < len(data):
        blocks.append(data[at : at + sizes.randint(1, 40)])
        at += len(blocks[-1])
    assert [part for _, part, _ in read(blocks)] == [part.replace(b"--b", b"") for part in parts]


@pytest.mark.parametrize(
    "data",
    [
        b"--b--",
        b"--b--\r\n",
        b"--b--an epilogue\r\n--b\r\n\r\nno part\r\n--b--",
        b"\r\n--b--",
    ],
)
def test_no_parts(data: bytes) -> None:
    assert read([data]) == []


def test_head__empty_or_padded() -> None:
    assert read([b"--b \t \r\n\r\nx\r\n--b\r\n\r\n--b\t\r\nA: 1\r\nB:2\r\n\r\n--b--"]) == [
        ({}, b"x", True),
        ({}, b"", True),
        ({"a": "1", "b": "2"}, b"", True),
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends before"),
        (b"--b\r\n\r\nx", "ends before"),
        (b"--b\r\n\r\nx\r\n--b", "ends before"),
        (b"--b\r\n\r\nx\r\n--b\r\n", "ends before"),
        (b"--b-", "ends before"),
        (b"y" * 2000, "no boundary"),
        (b"--bc\r\n\r\nx\r\n--b--", "something else"),
        (b"--b\r\n\r\nx\r\n--bx\r\n", "something else"),
        (b"--b\n\nx\r\n--b--", "something else"),
        (b"--b" + b" " * 200, "something else"),
        (b"--b\r\nno field\r\n\r\nx\r\n--b--", "cannot be read"),
        (b"--b\r\nA: 1\r\n folded\r\n\r\nx\r\n--b--", "cannot be read"),
        (b"--b\r\nA: 1\r\na: 2\r\n\r\nx\r\n--b--", "there twice"),
        (b"--b\r\nA : 1\r\n\r\nx\r\n--b--", "cannot be read"),
        (b"--b\r\nA: \xe9\r\n\r\nx\r\n--b--", "not ASCII"),
    ],
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_bad_bodies__are_refused(data: bytes, why: str, size: int) -> None:
    with pytest.raises(MultipartError, match=why) as refused:
        read(cut(data, size))
    assert not isinstance(refused.value, TooMuchError)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"--b\r\nA: " + b"x" * 300, "header fields"),
        (b"--b\r\nA: " + b"x" * 300 + b"\r\n\r\n\r\n--b--", "header fields"),
        (body(*[b""] * 51), "too many parts"),
        (b"--b--" + bytes(100_000), "too large"),
    ],
)
@pytest.mark.parametrize("size", [64, 200_000])
def test_limits__hold(data: bytes, why: str, size: int) -> None:
    with pytest.raises(TooMuchError, match=why):
        read(cut(data, size))


@pytest.mark.parametrize("size", [1000, 100_000])
def test_a_part_that_is_too_long__is_cut_and_the_next_ones_are_read(size: int) -> None:
    found = read(cut(body(b"a" * 20_000, b"b" * 20_001, b"c"), size))
    assert [(len(data), whole) for _, data, whole in found] == [(20_000, True), (20_000, False), (1, True)]


@pytest.mark.parametrize("boundary", ["", "x" * 201, "x ", "\u00e4", 'a"b', "a\r\nb"])
def test_boundary__that_is_none(boundary: str) -> None:
    with pytest.raises(MultipartError, match="boundary"):
        MultipartReader(boundary, LIMITS)


def test_boundary__with_every_character_it_may_have() -> None:
    boundary = "0aZ'()+_,-./:=? x" + "y" * 60
    assert [data for _, data, _ in read([body(b"1", b"2", boundary=boundary)], boundary)] == [b"1", b"2"]
