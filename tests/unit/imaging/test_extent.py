"""What parsing would make is known before anything is parsed, and never less than what pydicom makes."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset as parse
from pydicom.uid import DeflatedExplicitVRLittleEndian

from spineone_core.imaging import extent
from spineone_core.imaging.extent import MOST_PARTS, CostlyError, measure, without_sequences
from spineone_core.imaging.file_extent import check_file, read_flat
from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.headers import read_headers
from tests.fakes.datasets import encode, mr_image, save, with_meta

UNDEFINED = b"\xff\xff\xff\xff"
EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"
SEQUENCE = b"\x08\x00\x15\x11SQ\0\0" + UNDEFINED
# Frame content, plane position and plane orientation; further ones are private.
MACROS = (0x00209111, 0x00209113, 0x00209116)
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def enhanced(frames: int, *, undefined: bool, width: int = 3) -> Dataset:
    """An image with ``width`` macros in each per-frame item."""
    dataset = mr_image(1)
    dataset.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(frames)]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        for number in range(width):
            macro = Dataset()
            macro.ImagePositionPatient, macro.PixelSpacing, macro.SliceThickness = [1, 2, 3], [1, 1], 3
            tag = MACROS[number] if number < len(MACROS) else 0x00211000 + number
            frame.add_new(tag, "SQ", [macro])
            frame[tag].is_undefined_length = undefined
            macro.is_undefined_length_sequence_item = undefined
        frame.is_undefined_length_sequence_item = undefined
    dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined
    return dataset


def parts_of(dataset: Dataset) -> int:
    """What pydicom made: elements, and three for each item."""
    count = 0
    for tag in list(dataset.keys()):
        count += 1
        try:
            element = dataset[tag]
        except Exception:  # a broken value is still an element
            continue
        if element.VR == "SQ":
            count += sum(3 + parts_of(item) for item in element.value)
    return count


def broken(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 2, 3, 5))):
        at, what = source.randrange(len(changed)), source.random()
        if what < 0.7:
            changed[at] = source.choice((0, 255, 127, 128, source.randrange(256)))
        elif what < 0.85:
            del changed[at : at + source.randint(1, 12)]
        else:
            changed[at:at] = source.randbytes(source.randint(1, 12))
    return bytes(changed)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize(("implicit", "little"), [(False, True), (True, True), (False, False)])
def test_measure__counts_what_pydicom_makes(undefined: bool, implicit: bool, little: bool) -> None:
    data = encode(enhanced(30, undefined=undefined), implicit=implicit, little_endian=little)
    found = measure(data, implicit=implicit, little=little, pixels=True)
    made = parts_of(parse(BytesIO(data), implicit, little))
    # The bytes of the list of character sets are counted too.
    assert made <= found.parts <= made + 20
    assert found.depth == 2


@pytest.mark.filterwarnings("ignore")
def test_measure__never_counts_less_than_pydicom_makes_of_broken_bytes() -> None:
    source = random.Random(16)
    for number in range(300):
        implicit = bool(number % 2)
        data = broken(encode(enhanced(3, undefined=number % 4 < 2), implicit=implicit), source)
        try:
            found = measure(data, implicit=implicit, little=True, pixels=True).parts
            made = parts_of(parse(BytesIO(data), implicit, True))
        except Exception:  # refused by one of the two
            continue
        assert found >= made, number


@pytest.mark.parametrize("undefined", [False, True])
def test_measure__large_ordinary_objects_are_far_from_the_limit(undefined: bool) -> None:
    """2,000 frames of 27 macros: a tenth of the 20,000 frames that a file may have."""
    one = encode(enhanced(1, undefined=undefined, width=27))
    begin, end = one.index(b"\x00\x52\x30\x92SQ") + 12, one.index(b"\xe0\x7f\x10\x00OW")
    item = one[begin : end - 8] if undefined else one[begin:end]
    many = item * 2000
    length = UNDEFINED if undefined else struct.pack("<I", len(many))
    data = one[: begin - 4] + length + many + (SEQUENCE_END if undefined else b"") + one[end:]
    assert 300_000 < measure(data, implicit=False, little=True).parts < MOST_PARTS / 10


@pytest.mark.parametrize(
    ("data", "implicit", "why"),
    [
        (SEQUENCE + EMPTY_ITEM * 5000, False, "elements, items and values"),
        (SEQUENCE[:8] + struct.pack("<I", 40000) + EMPTY_ITEM * 5000, False, "elements, items and values"),
        (b"\x09\x00\x01\x10UN\0\0" + struct.pack("<I", 40000) + EMPTY_ITEM * 5000, False, "elements, items and values"),
        (b"\x09\x00\x01\x10" + struct.pack("<I", 40000) + EMPTY_ITEM * 5000, True, "elements, items and values"),
        (b"\x18\x00\x50\x00DS\0\0" * 11_000, False, "elements, items and values"),
        (
            b"\x18\x00\x50\x00DS\xf8\x2a" + b"1\\" * 5500 + b"\x18\x00\x51\x00DS\xf8\x2a" + b"1\\" * 5500,
            False,
            "elements, items and values",
        ),
        (b"\x28\x00\x10\x00" + struct.pack("<I", 40000) + bytes(40000), True, "elements, items and values"),
        (b"\x10\x00\x10\x00" + struct.pack("<I", 70000) + b"^" * 70000, True, "longer than 65534 bytes"),
        (b"\x08\x00\x05\x00CS\x00\x04" + b"ISO_IR 100\\" * 93, False, "character sets"),
        ((SEQUENCE + b"\xfe\xff\x00\xe0" + UNDEFINED) * 200, False, "deep"),
    ],
    ids=["undefined", "explicit", "UN", "private", "flat", "values", "numbers", "name", "character sets", "deep"],
)
def test_measure__refuses_what_costs_more_than_it_weighs(data: bytes, implicit: bool, why: str) -> None:
    with pytest.raises(CostlyError, match=why):
        measure(data + bytes(8), implicit=implicit, little=True, most_parts=10_000)


def test_measure__has_a_limit_on_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extent, "MOST_SECONDS", -1.0)
    with pytest.raises(CostlyError, match="too long"):
        measure(SEQUENCE + EMPTY_ITEM * 30_000, implicit=False, little=True)


def test_measure__private_bytes_that_look_like_items_are_no_obstacle() -> None:
    """A private value of defined length is parsed only when it is asked for; what is broken in it does not matter."""
    value = b"\xfe\xff\x00\xe0" + bytes(range(60))
    data = b"\x09\x00\x01\x10UN\0\0" + struct.pack("<I", len(value)) + value + encode(mr_image(1))
    assert measure(data, implicit=False, little=True).end == data.index(b"\xe0\x7f\x10\x00OW")


def test_flat__has_all_but_the_sequences_of_undefined_length(tmp_path: Path) -> None:
    dataset = with_meta(enhanced(3, undefined=True))
    flat = read_flat(save(dataset, tmp_path / "image.dcm"))
    assert flat.PatientID == "SECRET-ID"
    assert "PerFrameFunctionalGroupsSequence" not in flat
    data = encode(dataset)
    head = without_sequences(data, measure(data, implicit=False, little=True))
    assert {int(t) for t in parse(BytesIO(head), False, True)._dict} == {int(t) for t in flat._dict}


def deflated(path: Path, items: int) -> Path:
    """A small file that inflates to a sequence of so many empty items."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(SEQUENCE + EMPTY_ITEM * items + SEQUENCE_END + encode(mr_image(1))) + packer.flush()
    save(with_meta(mr_image(1)), path)
    meta = read_dataset(path, pixels=False).file_meta
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    with path.open("wb") as file:
        from pydicom.filewriter import write_file_meta_info

        file.write(bytes(128) + b"DICM")
        write_file_meta_info(file, meta, enforce_standard=False)
        file.write(packed + bytes(len(packed) % 2))
    return path


_CHILD = """
import resource, sys
from pathlib import Path
from spineone_core.imaging.headers import read_headers
resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_headers([Path(sys.argv[1])])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, len(found[0]), found[1][0].why)
"""


def test_file__of_a_few_kilobytes_takes_no_gigabyte(tmp_path: Path) -> None:
    """A million empty items in 10 kB would take pydicom more than a gigabyte."""
    path = deflated(tmp_path / "image.dcm", 1_000_000)
    assert path.stat().st_size < 20_000
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path)], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr[-300:]
    megabytes, headers, why = done.stdout.split(maxsplit=2)
    assert int(megabytes) < 400
    assert int(headers) == 0
    assert "elements, items and values" in why


def test_file__deflated_may_have_parts_in_proportion(tmp_path: Path) -> None:
    check_file(deflated(tmp_path / "few.dcm", 20_000))
    with pytest.raises(CostlyError):
        check_file(deflated(tmp_path / "many.dcm", 80_000))


@pytest.mark.parametrize("start", [b"\0\0\1\0", b"\2\0\1\0ZZ\0\0"], ids=["command set", "unknown VR in the meta group"])
def test_file__begins_as_a_file_does(tmp_path: Path, start: bytes) -> None:
    """What pydicom reads before the data set is read in other ways than the rest."""
    (tmp_path / "x").write_bytes(bytes(128) + b"DICM" + start + bytes(100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(read_headers([tmp_path / "x"])[1]) == 1
    with pytest.raises(ValueError, match=r"begins with|broken"):
        check_file(tmp_path / "x")
