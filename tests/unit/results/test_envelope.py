"""Patient and study pass through untouched in every script; what breaks the standard is not repeated."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.gate.every_object import values
from dicom_node.results.envelope import (
    copy_patient_and_study,
    departures,
    plain,
    settled,
    start_result,
    to_bytes,
    unfit_accession,
    unwritable,
)
from dicom_node.results.kinds import OVERLAY
from tests.unit.synthetic import CREATED, KEY, NAMES, classic, named, poor


def _start(header: Dataset, created: datetime = CREATED) -> Dataset:
    return start_result(header, OVERLAY, key=KEY, created=created)


def _file(header: Dataset, syntax: str) -> Dataset:
    """The header as it comes from disk: raw, undecoded."""
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, header, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def _raw(dataset: Dataset, keyword: str) -> bytes:
    element = dataset.get_item(keyword)
    assert element.is_raw, "someone decoded it before us"
    return bytes(element.value)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_names_survive_byte_by_byte(kind: str, syntax: str) -> None:
    source = _file(named(kind), syntax)
    wanted = _raw(source, "PatientName")
    result = settled(_start(source))
    assert _raw(result, "PatientName") == wanted
    assert result.SpecificCharacterSet == named(kind).SpecificCharacterSet
    assert str(result.PatientName) == NAMES[kind][1]


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_decoded_headers_survive(kind: str) -> None:
    assert str(settled(_start(named(kind))).PatientName) == NAMES[kind][1]


def test_bytes_that_do_not_fit_their_character_set_stay_as_they_are() -> None:
    """Latin-1 bytes that are labelled UTF-8: decoding and encoding them again would change them."""
    source = _file(classic(SpecificCharacterSet="ISO_IR 192"), ExplicitVRLittleEndian)
    for keyword in ("PatientName", "PatientID"):
        source[keyword] = source.get_item(keyword)._replace(value=b"M\xfcller", length=6)
    result = settled(_start(source))
    assert _raw(result, "PatientName") == _raw(result, "PatientID") == b"M\xfcller"


def test_bytes_without_a_character_set_stay_as_they_are() -> None:
    source = _file(classic(SpecificCharacterSet=None, PatientName="Plain^Name"), ExplicitVRLittleEndian)
    source[0x00100010] = source.get_item("PatientName")._replace(value=b"\xcf\xe5\xf2\xf0\xee\xe2^", length=7)
    result = settled(_start(source))
    assert "SpecificCharacterSet" not in result
    assert _raw(result, "PatientName") == b"\xcf\xe5\xf2\xf0\xee\xe2^ "


@pytest.mark.parametrize(
    ("term", "written"),
    [
        (None, None),
        ("ISO_IR 100", "ISO_IR 100"),
        ("ISO IR 100", "ISO_IR 100"),
        ("iso_ir 192", "ISO_IR 192"),
        ("UTF-8", "ISO_IR 192"),
        ("ISO-2022-IR-87", "ISO 2022 IR 87"),
        ("KLINGON", None),
    ],
)
def test_character_set_is_never_invented(term: str | None, written: str | None) -> None:
    source = classic(SpecificCharacterSet=None)
    if term:
        source.SpecificCharacterSet = term
    assert _start(source).get("SpecificCharacterSet") == written


def test_poor_source_gives_empty_type_2_attributes() -> None:
    result = settled(_start(poor()))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyID", "ReferringPhysicianName"):
        assert keyword in result
        assert result[keyword].is_empty
    for keyword in ("StudyDescription", "PatientAge", "IssuerOfPatientID"):
        assert keyword not in result


@pytest.mark.parametrize(
    ("keyword", "value", "written"),
    [
        ("StudyDate", "20.01.2026", ""),
        ("StudyDate", "2026", ""),
        ("StudyDate", "20261301", ""),
        ("StudyTime", "noon", ""),
        ("PatientSex", "female", ""),
        ("PatientSex", "W", ""),
        ("PatientAge", "56", None),
        ("StudyDescription", "x" * 65, None),
        ("StudyDescription", "two\nlines", None),
        ("AccessionNumber", "A" * 17, ""),
        ("TimezoneOffsetFromUTC", "MEZ", None),
        ("PatientID", "P" * 65, "P" * 65),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_invalid_values_are_not_repeated_but_identity_is(keyword: str, value: str, written: str | None) -> None:
    source = Dataset()
    source.update(classic())
    vr = pydicom.datadict.dictionary_VR(keyword)
    source[keyword] = pydicom.DataElement(keyword, vr, value, validation_mode=pydicom.config.IGNORE)
    result = _start(_file(source, ExplicitVRLittleEndian))
    found = result.get(keyword)
    assert (None if found is None else str(found)) == written


LONG_FAMILY = "Wolfeschlegelsteinhausenbergerdorff-Hohenzollern-Sigmaringen"


def _with_bytes(header: Dataset, keyword: str, value: bytes) -> Dataset:
    """The header from disk, with these bytes in one attribute."""
    source = _file(header, ExplicitVRLittleEndian)
    padded = value + b" " * (len(value) % 2)
    source[keyword] = source.get_item(keyword)._replace(value=padded, length=len(padded))
    return source


@pytest.mark.parametrize(
    ("terms", "codec", "name", "written"),
    [
        ("ISO_IR 192", "utf-8", f"{LONG_FAMILY}^Maximilian^Anton Emil", LONG_FAMILY),
        ("ISO_IR 192", "utf-8", f"Müller^Anna^{'von ' * 20}^Dr", "Müller^Anna"),
        ("ISO_IR 192", "utf-8", "é" * 70 + "^A", "é" * 64),
        ("ISO_IR 192", "utf-8", "e\u0301" * 40, "e\u0301" * 32),
        ("ISO_IR 192", "utf-8", "x" * 63 + "e\u0301" * 2, "x" * 63),
        ("ISO_IR 192", "utf-8", f"Wang^XiaoDong=王^{'小' * 70}=", "Wang^XiaoDong=王"),
        ("ISO_IR 100", "latin-1", f"Müller^{'ü' * 70}", "Müller"),
        ("GB18030", "gb18030", f"Wang^XiaoDong=王^{'东' * 65}", "Wang^XiaoDong=王"),
    ],
)
def test_a_name_that_is_too_long_is_cut_and_the_result_says_so(terms: str, codec: str, name: str, written: str) -> None:
    source = _with_bytes(classic(SpecificCharacterSet=terms), "PatientName", name.encode(codec))
    result = settled(_start(source))
    assert str(result.PatientName) == written
    assert check_values(result) == []
    (said,) = departures(source)
    assert "name" in said
    assert name[:6] not in said
    assert unwritable(source) == ""


def check_values(result: Dataset) -> list[str]:
    return [problem for problem in values(result) if "Patient" in problem]


@pytest.mark.parametrize("name", ["DOE^JOHN^^^^^", "DOE^JOHN", "x" * 64, "", "Ab^C=王^小=" + "z" * 64])
def test_a_name_that_fits_stays(name: str) -> None:
    source = _with_bytes(classic(), "PatientName", name.encode())
    assert str(_start(source).PatientName) == name
    assert departures(source) == ()
    assert unwritable(source) == ""


@pytest.mark.parametrize(
    ("terms", "value"),
    [
        # In both, a byte of one character is that of a backslash (PS3.5 6.1.2.3): it separates nothing.
        (["", "ISO 2022 IR 87"], b"Yamada=\x1b$BJ\\\x1b(B"),
        ("GB18030", "Wang=\u4e57".encode("gb18030")),
    ],
)
def test_a_character_that_holds_the_byte_of_a_backslash_is_no_second_value(terms: Any, value: bytes) -> None:
    assert b"\\" in value
    assert unwritable(_with_bytes(classic(SpecificCharacterSet=terms), "PatientName", value)) == ""


@pytest.mark.parametrize(
    ("keyword", "value", "why"),
    [
        ("PatientID", b"DOM\\4711", "backslash"),
        ("PatientName", b"DOE^JOHN\\ROE^JANE", "backslash"),
        ("PatientID", b"P" * 65, "VR LO"),
        ("PatientID", b"two\nlines", "VR LO"),
        ("PatientName", b"a=b=c=d", "VR PN"),
        ("PatientName", b"M\xfcller" * 12, "VR PN"),
    ],
)
def test_a_patient_who_cannot_stand_in_a_result(keyword: str, value: bytes, why: str) -> None:
    source = _with_bytes(classic(), keyword, value)
    assert keyword in unwritable(source)
    assert why in unwritable(source)
    assert "DOE" not in unwritable(source)


@pytest.mark.parametrize(
    ("value", "whole"),
    [
        (b"A" * 16, ""),
        (b"HOSPITAL-2026-0000123", "HOSPITAL-2026-0000123"),
        (b"A1\\A2", "A1\\A2"),
        ("ÄÖ-2026-03-04-00017".encode(), "ÄÖ-2026-03-04-00017"),
        (b"two\nlines", ""),
        (b"\xff" * 20, ""),
        (b"", ""),
    ],
)
def test_an_accession_number_is_whole_or_absent(value: bytes, whole: str) -> None:
    source = _with_bytes(classic(), "AccessionNumber", value)
    assert unfit_accession(source) == whole
    kept = value.decode() if len(value) <= 16 and b"\\" not in value and b"\n" not in value else ""
    assert str(_start(source).AccessionNumber or "") == kept
    assert bool(departures(source)) is (kept == "" and bool(value))


@pytest.mark.parametrize("keyword", ["StudyID", "IssuerOfPatientID"])
def test_other_identifiers_are_never_missing_without_a_word(keyword: str) -> None:
    source = _with_bytes(classic(IssuerOfPatientID="Clinic"), keyword, b"x" * 70)
    assert not _start(source).get(keyword)
    (said,) = departures(source)
    assert "left empty" in said


def test_null_padding_of_text_is_mended() -> None:
    source = _file(classic(PatientID="ODD"), ExplicitVRLittleEndian)
    source[0x00100020] = source.get_item("PatientID")._replace(value=b"ODD\0")
    assert _raw(settled(_start(source)), "PatientID") == b"ODD "


def test_the_source_is_not_changed() -> None:
    source = _file(named("japanese"), ExplicitVRLittleEndian)
    # Iterating would read the elements, which replaces them.
    tags = set(source.keys())
    before = {tag: source.get_item(tag) for tag in tags}
    copy_patient_and_study(source, Dataset())
    assert set(source.keys()) == tags
    changed = {tag for tag, element in before.items() if source.get_item(tag) is not element}
    assert changed <= {0x00080005}


@pytest.mark.parametrize(("method", "kept"), [("blanked", True), (None, False)])
def test_deidentification_is_claimed_only_with_a_method(method: str | None, kept: bool) -> None:
    source = classic(PatientIdentityRemoved="YES")
    if method:
        source.DeidentificationMethod = method
    assert ("PatientIdentityRemoved" in _start(source)) is kept


@pytest.mark.parametrize(
    ("zone", "created", "time"),
    [
        (None, datetime(2026, 3, 4, 23, 30, tzinfo=timezone.utc), "20260304 233000"),  # noqa: UP017
        ("+0100", datetime(2026, 3, 4, 23, 30, tzinfo=timezone.utc), "20260305 003000"),  # noqa: UP017
        ("-0330", datetime(2026, 3, 4, 23, 30, tzinfo=timezone(timedelta(hours=1))), "20260304 190000"),
        ("+0100", datetime(2026, 3, 4, 23, 30), "20260304 233000"),  # noqa: DTZ001
    ],
)
def test_dates_follow_the_zone_of_the_source(zone: str | None, created: datetime, time: str) -> None:
    result = _start(classic(TimezoneOffsetFromUTC=zone) if zone else classic(), created)
    assert f"{result.ContentDate} {result.ContentTime}" == time
    assert result.get("TimezoneOffsetFromUTC") == zone


def test_file_meta_is_ours() -> None:
    meta = pydicom.dcmread(BytesIO(to_bytes(_start(classic())))).file_meta
    assert meta.ImplementationClassUID.startswith("2.25.")
    assert meta.ImplementationVersionName.startswith("SPINEONE")
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Übersicht\\loc", "Ubersicht/loc"),
        ("a\r\nb\tc", "a  b c"),
        ("山", "?"),
        ("  x ", "x"),
        ("y" * 2000, "y" * 1024),
    ],
)
def test_plain_text_fits_every_character_set(text: Any, written: str) -> None:
    assert plain(text) == written
