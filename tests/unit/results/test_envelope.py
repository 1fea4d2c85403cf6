"""Patient and study pass through untouched in every script; what breaks the standard is not repeated."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.results.envelope import copy_patient_and_study, plain, settled, start_result, to_bytes
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
