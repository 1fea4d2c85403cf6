"""De-identification: what stays, what goes, and that nothing of the original is left in the bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from dicom_node.upkeep.deidentify import Pseudonyms, deidentify
from dicom_node.upkeep.traces import IdentifyingError
from spineone_core.imaging.files import find_files
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.phantom.dicom import write_exam
from tests.fakes.datasets import mr_image
from tests.peers import DCIODVFY, dciodvfy_errors, need

PSEUDONYMS = Pseudonyms(b"k" * 32)
# Everything that a header may say about a person, a visit or a place, in many VRs and at depth.
SECRETS: dict[str, Any] = {
    "PatientName": "Smithson^Gabriele^Ann=スミソン^ガ=",
    "PatientID": "HOSP-0047111",
    "IssuerOfPatientID": "General Hospital North",
    "OtherPatientNames": "Maidenname^Gabriele",
    "OtherPatientIDs": ["OLD-998877", "CARD-5566"],
    "PatientBirthDate": "19610324",
    "PatientBirthTime": "081530.123456",
    "PatientSex": "F",
    "PatientAge": "063Y",
    "PatientAddress": "14 Nowhere Lane",
    "PatientTelephoneNumbers": "+49-30-5550147",
    "PatientComments": "afraid of tunnels",
    "AccessionNumber": "ACC20240017",
    "StudyID": "ST-4711",
    "StudyDate": "20240315",
    "StudyTime": "142536",
    "SeriesDate": "20240316",
    "AcquisitionDateTime": "20240315142600.500000",
    "ContentDate": "20240317",
    "InstanceCreationDate": "20240318",
    "ReferringPhysicianName": "Doktorow^Igor",
    "OperatorsName": "Technikus^Tessa",
    "PerformingPhysicianName": "Performa^Paul",
    "InstitutionName": "St. Elsewhere Clinic",
    "InstitutionAddress": "1 Hospital Way",
    "InstitutionalDepartmentName": "Radiology West",
    "StationName": "MRC40123",
    "DeviceSerialNumber": "SN-889-123",
    "StudyDescription": "MR L-spine Smithson",
    "SeriesDescription": "t2_tse_sag for Dr. Doktorow",
    "ProtocolName": "lumbar Smithson",
    "ImageComments": "Gabriele moved",
    "RequestedProcedureID": "RP-20240017",
    "PerformedProcedureStepID": "PPS-0815-42",
    "TimezoneOffsetFromUTC": "+0100",
}


def secret_image(number: int = 1) -> Dataset:
    image = mr_image(number, study="1.2.826.0.1.3680043.10.4711.99")
    for keyword, value in SECRETS.items():
        setattr(image, keyword, value)
    image.Manufacturer, image.ManufacturerModelName, image.MagneticFieldStrength = "SIEMENS", "Avanto", "1.5"
    image.ScanningSequence, image.EchoTime, image.FrameOfReferenceUID = "SE", "102", "1.2.826.0.1.9.8.7.6.5"
    step = Dataset()
    step.ScheduledProcedureStepDescription, step.AccessionNumber = "for Smithson", "ACC20240017"
    step.ReferencedSOPInstanceUID = "1.2.826.0.1.5.4.3.2.1"
    image.RequestAttributesSequence = Sequence([step])
    image.private_block(0x0029, "SECRET VENDOR", create=True).add_new(0x10, "OB", b"Smithson HOSP-0047111 19610324")
    image.add_new(0x60003000, "OW", b"\x01\x02" * 4)
    return image


def saved(image: Dataset, folder: Path) -> Path:
    path = folder / "image.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(data))


def test_deidentify__nothing_identifying_is_left_in_the_bytes(tmp_path: Path) -> None:
    written = deidentify(saved(secret_image(), tmp_path), PSEUDONYMS)
    for value in SECRETS.values():
        for text in value if isinstance(value, list) else [value]:
            for part in [text, *text.replace("=", "^").split("^")]:
                if len(part) > 3:
                    assert part.encode() not in written, part
    for trace in (b"SECRET", b"Smithson", b"1.2.826.0.1.36", b"1.2.826.0.1.9", b"1.2.826.0.1.5", b"2024", b"Elsewhere"):
        assert trace not in written, trace


def test_deidentify__what_training_needs_stays(tmp_path: Path) -> None:
    original = secret_image()
    image = read(deidentify(saved(original, tmp_path), PSEUDONYMS))
    for keyword in ("Manufacturer", "ManufacturerModelName", "MagneticFieldStrength", "EchoTime", "ScanningSequence"):
        assert image[keyword].value == original[keyword].value
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "InstanceNumber"):
        assert image[keyword].value == original[keyword].value
    assert (image.pixel_array == original.pixel_array).all()
    assert image.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_deidentify__says_what_was_done(tmp_path: Path) -> None:
    image = read(deidentify(saved(secret_image(), tmp_path), PSEUDONYMS))
    assert image.PatientIdentityRemoved == "YES"
    assert image.LongitudinalTemporalInformationModified == "REMOVED"
    assert "SpineOne Node" in image.DeidentificationMethod
    (code,) = image.DeidentificationMethodCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
    assert image.PatientName == image.PatientID == PSEUDONYMS.patient(secret_image())
    assert [image[k].value for k in ("StudyDate", "PatientBirthDate", "AccessionNumber")] == ["", "", ""]
    assert not any(element.tag.is_private for element in image.iterall())


def test_pseudonyms__are_the_same_for_a_site_and_no_other() -> None:
    image, other = secret_image(1), secret_image(2)
    elsewhere = Pseudonyms(b"x" * 32)
    assert PSEUDONYMS.patient(image) == PSEUDONYMS.patient(other) != elsewhere.patient(image)
    assert PSEUDONYMS.uid(image.StudyInstanceUID) == PSEUDONYMS.uid(other.StudyInstanceUID)
    assert PSEUDONYMS.uid(image.StudyInstanceUID) != elsewhere.uid(image.StudyInstanceUID)
    assert PSEUDONYMS.uid(image.StudyInstanceUID).startswith("2.25.")
    assert PSEUDONYMS.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    # The same number from two hospitals means two patients; without a number each study is its own patient.
    other.IssuerOfPatientID = "Another Hospital"
    assert PSEUDONYMS.patient(image) != PSEUDONYMS.patient(other)
    image.PatientID = other.PatientID = ""
    image.StudyInstanceUID = "1.2.3"
    assert PSEUDONYMS.patient(image) != PSEUDONYMS.patient(other)
    with pytest.raises(ValueError, match="32 bytes"):
        Pseudonyms(b"short")


def test_deidentify__uids_are_consistent_and_references_follow(tmp_path: Path) -> None:
    first = read(deidentify(saved(secret_image(1), tmp_path), PSEUDONYMS))
    second = read(deidentify(saved(secret_image(2), tmp_path), PSEUDONYMS))
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert first[keyword].value == second[keyword].value
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
    assert first.SOPClassUID == secret_image().SOPClassUID


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_deidentify__any_transfer_syntax_is_written_uncompressed(tmp_path: Path, syntax: str) -> None:
    image = secret_image()
    image.PixelData = np.arange(64, dtype="<u2").tobytes()
    pixels = image.pixel_array.copy()
    if syntax == ImplicitVRLittleEndian:
        image.file_meta.TransferSyntaxUID = syntax
    else:
        image.compress(syntax, generate_instance_uid=False)
    assert (read(deidentify(saved(image, tmp_path), PSEUDONYMS)).pixel_array == pixels).all()


@pytest.mark.parametrize("signed", [False, True])
def test_deidentify__spare_bits_and_what_follows_the_pixels_are_gone(tmp_path: Path, signed: bool) -> None:
    image = secret_image()
    image.BitsStored, image.HighBit, image.PixelRepresentation = 12, 11, int(signed)
    values = np.arange(64, dtype="<i2") - (32 if signed else 0)
    hidden = (values & 0x0FFF) | 0x5000
    image.PixelData = hidden.astype("<u2").tobytes() + b"Smithson in the padding "
    written = read(deidentify(saved(image, tmp_path), PSEUDONYMS))
    assert (written.pixel_array.ravel() == values).all()
    assert len(written.PixelData) == 128


def _burned_in(image: Dataset) -> None:
    image.BurnedInAnnotation = "YES"


def _capture(image: Dataset) -> None:
    image.ConversionType = "WSD"


def _screen(image: Dataset) -> None:
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"


def _number_in_a_code(image: Dataset) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "HOSP-0047111", "99X", "spine"
    image.AnatomicRegionSequence = Sequence([code])


def _date_in_pixels(image: Dataset) -> None:
    image.PixelData = (b"\xff 19610324 \xff" + b"\0" * 128)[:128]


def _name_in_a_coded_meaning(image: Dataset) -> None:
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "1", "99X", "spine of Gabriele"
    image.AnatomicRegionSequence = Sequence([region])


def _cut(image: Dataset) -> None:
    image.PixelData = b"\0\0"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_burned_in, "BurnedInAnnotation"),
        (_capture, "secondary capture"),
        (_screen, "only MR images"),
        (_number_in_a_code, "CodeValue of an image repeats PatientID"),
        (_date_in_pixels, "PatientBirthDate is found"),
        (_name_in_a_coded_meaning, "CodeMeaning of an image repeats"),
        (_cut, "truncated"),
    ],
)
def test_deidentify__refuses_rather_than_lets_through(
    tmp_path: Path, spoil: Callable[[Dataset], None], says: str
) -> None:
    image = secret_image()
    spoil(image)
    with pytest.raises(IdentifyingError, match=says) as refused:
        deidentify(saved(image, tmp_path), PSEUDONYMS)
    assert not any(secret in str(refused.value) for secret in ("Smithson", "0047111", "Gabriele", "19610324"))


@pytest.mark.parametrize(
    ("name", "manufacturer", "model"),
    [
        ("Smithson^Gabriele", "SIEMENS", "Avanto of Smithson"),
        ("Li^Wu", "made for li", "Avanto"),
        ("Siemens^Georg", "SIEMENS", "Avanto"),
        ("Doe^Jane", "SIEMENS at St. Elsewhere Clinic", "hosp-0047111"),
    ],
)
def test_deidentify__free_text_that_repeats_the_patient_is_emptied(
    tmp_path: Path, name: str, manufacturer: str, model: str
) -> None:
    image = secret_image()
    image.PatientName, image.Manufacturer, image.ManufacturerModelName = name, manufacturer, model
    written = read(deidentify(saved(image, tmp_path), PSEUDONYMS))
    left = {written.Manufacturer, written.ManufacturerModelName} - {""}
    assert left <= {"SIEMENS", "Avanto"}
    assert len(left) < 2


def test_deidentify__short_names_are_no_match_in_codes(tmp_path: Path) -> None:
    image = secret_image()
    image.PatientName, image.PatientID, image.AccessionNumber = "SE^MR", "1", "8"
    deidentify(saved(image, tmp_path), PSEUDONYMS)


@need(DCIODVFY)
def test_deidentify__makes_no_error_that_was_not_there(tmp_path: Path) -> None:
    exam = write_exam(tmp_path / "exam", 3, slices=3, companions=False)
    for path in exam.files["t2"]:
        target = tmp_path / path.name
        target.write_bytes(deidentify(path, PSEUDONYMS))
        assert dciodvfy_errors(target) == dciodvfy_errors(path)


@pytest.mark.parametrize("enhanced", [False, True])
def test_deidentify__the_volume_is_the_same(tmp_path: Path, enhanced: bool) -> None:
    exam = write_exam(tmp_path / "exam", 3, slices=3, companions=False, enhanced=enhanced)
    for path in exam.files["t2"]:
        (tmp_path / path.name).write_bytes(deidentify(path, PSEUDONYMS))

    def volume(folder: Path) -> SagittalVolume:
        (series,) = group_series(read_headers(find_files([folder]))[0])
        return load_volume(series)

    before = volume(tmp_path / "exam")
    shutil.rmtree(tmp_path / "exam")
    after = volume(tmp_path)
    assert (after.voxels == before.voxels).all()
    assert [after.to_patient(k, 5, 7).tolist() for k in range(3)] == [
        before.to_patient(k, 5, 7).tolist() for k in range(3)
    ]
