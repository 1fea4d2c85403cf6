"""The body of a multipart request holds the files byte for byte and has the length that it announces."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.dicomweb.multipart_writer import MultipartWriter

CONTENTS = [b"", b"--\r\n\r\n--", b"\x00\xff\r\n" * 50_000]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / f"{number}.dcm" for number in range(len(CONTENTS))]
    for path, content in zip(made, CONTENTS, strict=True):
        path.write_bytes(content)
    return made


@pytest.mark.parametrize("size", [1 << 20, 65536, 1000, -1])
def test_body__is_the_files_between_their_boundaries(paths: list[Path], size: int) -> None:
    writer = MultipartWriter(paths)
    body, blocks = b"", []
    while block := writer.read(size):
        blocks.append(len(block))
        body += block
    assert size < 0 or max(blocks) <= size
    assert len(body) == len(writer)
    boundary = writer.content_type.rpartition("boundary=")[2].encode()
    head = b"--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n"
    assert body == b"\r\n".join(head + content for content in CONTENTS) + b"\r\n--" + boundary + b"--\r\n"


def test_content_type__names_the_parts_and_a_boundary_of_its_own(paths: list[Path]) -> None:
    first, second = MultipartWriter(paths).content_type, MultipartWriter(paths).content_type
    assert first.startswith('multipart/related; type="application/dicom"; boundary=')
    assert first != second


@pytest.mark.parametrize(("content", "what"), [(b"short", "shorter"), (b"-" * 200_001, "longer")])
def test_body__of_a_file_that_changes_breaks_off(paths: list[Path], content: bytes, what: str) -> None:
    writer = MultipartWriter([paths[2]])
    paths[2].write_bytes(content)
    with pytest.raises(OSError, match=what):
        writer.read()
