"""What is readable is read, whatever its order; what is cut or says two things is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from dicom_node.dicom.headers import HeaderError, read_header
from dicom_node.images.incoming import encode_file_meta
from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.headers import read_headers
from tests.fakes.datasets import encode, incoming, mr_image, save
from tests.fakes.encodings import NAME, disordered, element

KINDS = ("tail", "end", "private", "swap", "twice", "sequence first", "sequence last")


def stored(dataset: Dataset, data: bytes, path: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    """The file that the listener makes of these bytes."""
    path.write_bytes(encode_file_meta(incoming(dataset, data=data, transfer_syntax_uid=syntax)) + data)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_read__elements_may_stand_in_any_order(kind: str, tmp_path: Path) -> None:
    data = disordered(mr_image(), kind)
    header = read_header(data, ExplicitVRLittleEndian)
    # The analysis reads the same values from the file.
    file = read_dataset(stored(mr_image(), data, tmp_path / "a.dcm"), pixels=False)
    for read in (header.dataset, file):
        assert (read.PatientName, read.PatientID, read.Rows) == ("SECRET^NAME", "SECRET-ID", 8)
        assert "PixelData" not in read
    assert header.pixel_bytes


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "end"])
@pytest.mark.parametrize("cut", [1, 5, 9])
def test_read__a_header_that_is_cut_is_still_refused(kind: str, cut: int) -> None:
    """There are no pixels: the header itself ends early."""
    image = mr_image()
    data = disordered(image, kind)
    data = data[: data.index(b"\xe0\x7f\x10\x00OW")]
    assert read_header(data, ExplicitVRLittleEndian).dataset.PatientName == "SECRET^NAME"
    with pytest.raises(HeaderError, match=r"truncated|cannot be parsed"):
        read_header(data[:-cut], ExplicitVRLittleEndian)


@pytest.mark.parametrize("where", ["before the pixels", "behind the pixels"])
def test_read__an_element_twice_must_say_the_same(where: str) -> None:
    data = encode(mr_image())
    name, _ = element(data, NAME)
    other = name.replace(b"SECRET", b"PUBLIC")
    at = data.index(b"\xe0\x7f\x10\x00OW") if where == "before the pixels" else len(data)
    padded = name[:6] + (len(name) - 8 + 2).to_bytes(2, "little") + name[8:] + b"  "
    for same in (name, padded):
        assert read_header(data[:at] + same + data[at:], ExplicitVRLittleEndian).dataset.PatientName == "SECRET^NAME"
    with pytest.raises(HeaderError, match="twice, with different values"):
        read_header(data[:at] + other + data[at:], ExplicitVRLittleEndian)


def test_read__a_sequence_twice_is_compared_whole() -> None:
    def items(uid: bytes) -> bytes:
        inner = b"\x08\x00\x55\x11UI" + len(uid).to_bytes(2, "little") + uid
        item = b"\xfe\xff\x00\xe0" + len(inner).to_bytes(4, "little") + inner
        return b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"

    data = encode(mr_image())
    assert read_header(items(b"1.2.34") + items(b"1.2.34") + data, ExplicitVRLittleEndian)
    with pytest.raises(HeaderError, match="twice"):
        read_header(items(b"1.2.34") + items(b"1.2.35") + data, ExplicitVRLittleEndian)


def test_read__in_implicit_vr() -> None:
    data = encode(mr_image(), implicit=True)
    name = b"\x10\x00\x10\x00\x0c\0\0\0SECRET^NAME "
    at = data.index(b"\xe0\x7f\x10\x00")
    assert name in data
    moved = data[:at].replace(name, b"") + name + data[at:]
    assert read_header(moved, ImplicitVRLittleEndian).dataset.PatientName == "SECRET^NAME"
    assert read_header(data + name, ImplicitVRLittleEndian).dataset.PatientName == "SECRET^NAME"
    with pytest.raises(HeaderError, match="twice"):
        read_header(data[:at] + name.replace(b"NAME", b"ELSE") + data[at:], ImplicitVRLittleEndian)


def test_read__behind_encapsulated_pixels(tmp_path: Path) -> None:
    image = mr_image()
    image.compress(RLELossless, generate_instance_uid=False)
    name, rest = element(encode(image), NAME)
    assert read_header(rest + name, RLELossless).dataset.PatientName == "SECRET^NAME"
    assert "PatientName" not in read_header(rest, RLELossless).dataset
    path = stored(image, rest + name, tmp_path / "a.dcm", RLELossless)
    assert read_dataset(path, pixels=False).PatientName == "SECRET^NAME"


@pytest.mark.parametrize(
    "rubbish", [b"\0" * 40, b"padding that is nothing", b"\x10\x00\x10\x00PN\xff\x00short", b"\1\2\3"]
)
def test_read__rubbish_behind_the_pixels_is_no_element(rubbish: bytes) -> None:
    data = encode(mr_image())
    assert (
        read_header(data + rubbish, ExplicitVRLittleEndian).dataset == read_header(data, ExplicitVRLittleEndian).dataset
    )


def test_files__modality_and_class_come_from_the_file_meta(tmp_path: Path) -> None:
    image = mr_image()
    path = save(image, tmp_path / "a.dcm")
    data = path.read_bytes()
    for vr in (b"\x08\x00\x16\x00UI", b"\x08\x00\x60\x00CS"):
        _, data = element(data, vr)
    path.write_bytes(data)
    (header,), unreadable = read_headers([path])
    assert not unreadable
    assert (header.sop_class_uid, header.modality) == (image.SOPClassUID, "MR")


def test_files__a_deflated_one_is_read(tmp_path: Path) -> None:
    image = mr_image()
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save(image, tmp_path / "a.dcm")
    assert read_dataset(path, pixels=False).PatientName == "SECRET^NAME"
