"""DICOM reading, adversarially: geometry there and back, mixed series, encodings, damage."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import get_decoder, get_encoder
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging import series
from spineone_core.imaging.files import find_files, read_dataset
from spineone_core.imaging.headers import frame_headers, read_headers
from spineone_core.imaging.pixels import decode_file
from spineone_core.imaging.series import Series, group_series, load_volume, order_frames
from spineone_core.imaging.volume import SagittalVolume, SliceSource

SAGITTAL = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]
ROWS, COLUMNS = 40, 36  # a JPEG 2000 encoder wants at least 32
NO_ENCODER = pytest.mark.skipif(not get_encoder(JPEG2000Lossless).is_available, reason="pylibjpeg is not installed")
COMPRESSED = [RLELossless, JPEGLSLossless, pytest.param(JPEG2000Lossless, marks=NO_ENCODER)]


def picture(number: int = 0, dtype: str = "<u2") -> NDArray[Any]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 1200, (ROWS, COLUMNS)).astype(dtype)


def image(number: int = 0, *, x: float | None = None, pixels: NDArray[Any] | None = None, **changes: Any) -> Dataset:
    """One sagittal MR image; ``changes`` overwrite attributes, None removes them."""
    pixels = picture(number) if pixels is None else pixels
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.SOPInstanceUID = f"2.25.7{number:03d}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.1", "2.25.2"
    dataset.Modality, dataset.SeriesDescription, dataset.SeriesNumber = "MR", "T2 TSE SAG", 2
    dataset.EchoTime, dataset.RepetitionTime = "100", "3500"
    dataset.ImageOrientationPatient = SAGITTAL
    dataset.ImagePositionPatient = [10.0 - 4.4 * number if x is None else x, -80.0, 120.0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.8], "4"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def write(folder: Path, *images: Dataset) -> Path:
    folder.mkdir(exist_ok=True)
    for number, dataset in enumerate(images):
        dataset.save_as(folder / f"{len(images) - number:03d}.dcm", enforce_file_format=True)
    return folder


def load(folder: Path) -> SagittalVolume:
    headers, unreadable = read_headers([folder])
    assert not unreadable
    (series,) = group_series(headers)
    return load_volume(series)


def refusal(folder: Path) -> NotAnalysable:
    headers, _ = read_headers([folder])
    with pytest.raises(NotAnalysable) as caught:
        load_volume(group_series(headers)[0])
    return caught.value


# ---------------------------------------------------------------- geometry


def test_volume_is_ordered_along_the_normal_whatever_the_file_order(tmp_path: Path) -> None:
    volume = load(write(tmp_path, *[image(k, InstanceNumber=99 - k) for k in (3, 0, 4, 1, 2)]))
    assert [s.sop_instance_uid for s in volume.sources] == [f"2.25.7{k:03d}" for k in range(5)]
    assert np.all(np.diff(volume.positions) > 0)
    assert volume.slice_step == pytest.approx(4.4)
    assert volume.middle_index == 2
    for k in range(5):
        np.testing.assert_array_equal(volume.voxels[k], picture(k))


def test_flipped_stack_is_ordered_by_position_too(tmp_path: Path) -> None:
    flipped = [0.0, -1.0, 0.0, 0.0, 0.0, -1.0]
    volume = load(write(tmp_path, *[image(k, ImageOrientationPatient=flipped) for k in range(5)]))
    assert [s.sop_instance_uid for s in volume.sources] == [f"2.25.7{k:03d}" for k in (4, 3, 2, 1, 0)]
    assert np.all(np.diff(volume.positions) > 0)


def test_a_pixel_has_the_place_the_standard_says(tmp_path: Path) -> None:
    volume = load(write(tmp_path, image(0)))
    # Columns run along the row direction with the second spacing value (PS3.3 C.7.6.2.1.1).
    np.testing.assert_allclose(volume.to_patient(0, 0, 0), [10, -80, 120])
    np.testing.assert_allclose(volume.to_patient(0, 5, 2), [10, -80 + 5 * 0.8, 120 - 2 * 0.7])


def oblique_volume(rng: np.random.Generator) -> SagittalVolume:
    directions, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    row, column = directions[:, 0], directions[:, 1]
    normal, count = np.cross(row, column), 5
    start = rng.normal(0, 100, 3)
    origins = start + normal * (4.0 * np.arange(count))[:, None]
    sources = tuple(SliceSource(Path("x"), f"2.25.{k + 1}", "", None) for k in range(count))
    return SagittalVolume(
        voxels=np.zeros((count, 8, 9), np.float32),
        origins=origins,
        row_direction=row,
        column_direction=column,
        pixel_spacing=(0.5, 0.9),
        sources=sources,
        study_uid="2.25.1",
        series_uid="2.25.2",
    )


@pytest.mark.parametrize("seed", range(8))
def test_oblique_geometry_there_and_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    volume = oblique_volume(rng)
    for index in range(5):
        x, y = rng.uniform(-20, 400, 2)
        place = volume.to_patient(index, x, y)
        assert volume.from_patient(place, index) == pytest.approx((x, y), abs=1e-9)
        # A point off the slice projects along the normal.
        assert volume.from_patient(place + 3.3 * volume.normal, index) == pytest.approx((x, y), abs=1e-9)
        assert place @ volume.normal == pytest.approx(volume.positions[index])


@pytest.mark.parametrize(("count", "middle"), [(1, 0), (2, 0), (3, 1), (6, 2)])
def test_middle_slice(tmp_path: Path, count: int, middle: int) -> None:
    assert load(write(tmp_path, *[image(k) for k in range(count)])).middle_index == middle


def test_middle_is_by_position_not_by_count(tmp_path: Path) -> None:
    volume = load(write(tmp_path, *[image(k, x=x) for k, x in enumerate((0.0, -40.0, -44.0, -48.0, -52.0))]))
    assert volume.middle_index in (1,)
    assert "missing or unevenly" in volume.warnings[0]


def test_a_slice_sent_again_under_another_uid_is_left_out(tmp_path: Path) -> None:
    again = image(7, x=10.0, pixels=picture(0))
    volume = load(write(tmp_path, *[image(k) for k in range(3)], again))
    assert [s.sop_instance_uid for s in volume.sources] == ["2.25.7000", "2.25.7001", "2.25.7002"]
    assert volume.warnings == ("1 slices at duplicate positions left out: copies under another UID",)


def test_duplicates_with_another_picture_are_refused(tmp_path: Path) -> None:
    """Their headers are equal, their pictures are not: nothing tells which belongs to the volume."""
    error = refusal(write(tmp_path, *[image(k) for k in range(3)], image(7, x=10.0)))
    assert error.reason is Reason.INVALID_GEOMETRY
    assert "different pictures" in error.detail


def test_duplicates_with_another_header_are_refused(tmp_path: Path) -> None:
    error = refusal(
        write(tmp_path, *[image(k) for k in range(3)], image(8, x=10.0 - 0.01, WindowCenter=5, WindowWidth=9))
    )
    assert error.reason is Reason.INVALID_GEOMETRY
    assert "no attribute tells apart" in error.detail


def test_slices_of_two_series_make_one_volume(tmp_path: Path) -> None:
    volume = load(
        write(tmp_path, *[image(k, SeriesInstanceUID=f"2.25.9{k % 2}", SliceThickness="4") for k in range(5)])
    )
    assert volume.series_uids == ("2.25.90", "2.25.91")
    assert [volume.series_uid_of(k) for k in range(5)] == [f"2.25.9{k % 2}" for k in range(5)]
    assert volume.warnings == ("the series is put together from 2 Series Instance UIDs",)


def test_evenly_spaced_series_has_no_warning(tmp_path: Path) -> None:
    assert load(write(tmp_path, *[image(k) for k in range(5)])).warnings == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageOrientationPatient": None},
        {"ImagePositionPatient": None},
        {"PixelSpacing": None},
        {"PixelSpacing": [0.0, 0.0]},
        {"PixelSpacing": [-0.7, 0.7]},
        {"PixelSpacing": [0.7, 7.0]},
        {"PixelSpacing": [50.0, 50.0]},
        {"PixelSpacing": ["0.7"]},
        {"ImageOrientationPatient": [0.0] * 6},
        {"ImageOrientationPatient": [0.0, 1.0, 0.0, 0.0, 0.5, -1.0]},
        {"ImageOrientationPatient": [0.0, 2.0, 0.0, 0.0, 0.0, -2.0]},
        {"ImageOrientationPatient": [0.0, 1.0, 0.0]},
    ],
)
def test_impossible_geometry_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert refusal(write(tmp_path, image(0, **changes))).reason is Reason.INVALID_GEOMETRY


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
@pytest.mark.parametrize("value", [b"NaN", b"inf", b"1e999", b"abc"])
def test_numbers_that_are_none_are_refused(tmp_path: Path, keyword: str, value: bytes) -> None:
    dataset = image(0)
    count = len(dataset[keyword].value)
    folder = write(tmp_path, dataset)
    path = folder / "001.dcm"
    element = dcmread(path, stop_before_pixels=True).get_item(keyword)
    assert element.value is not None
    raw, old = path.read_bytes(), bytes(element.value)
    new = b"\\".join([value] * count).ljust(len(old))[: len(old)]
    assert raw.count(old) == 1
    path.write_bytes(raw.replace(old, new))
    headers, unreadable = read_headers([folder])
    if not unreadable:
        with pytest.raises(NotAnalysable):
            load_volume(group_series(headers)[0])


def set_raw(dataset: Dataset, keyword: str, vr: str, value: str) -> None:
    """An element as a device wrote it, whatever its VR allows."""
    tag, content = Tag(keyword), value.encode().ljust(len(value) + len(value) % 2)
    dataset[tag] = RawDataElement(tag, vr, len(content), content, 0, False, True, True)


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("SeriesNumber", "IS", "456115117112105110101"),
        ("SeriesNumber", "IS", "3.5"),
        ("SliceThickness", "DS", "4,0"),
        ("EchoTime", "DS", "102,4"),
        ("EchoTime", "IS", "102.4"),
        ("WindowCenter", "DS", "500,5"),
        ("AcquisitionNumber", "IS", "Amadeus"),
        ("AcquisitionTime", "TM", "Amadeus"),
        ("StudyDate", "DA", "Amadeus"),
        ("ImagePositionPatient", "DS", "10.00000000000000\\-80.00000000000000\\120.0000000000000"),
    ],
)
def test_numbers_that_break_their_vr_do_not_stop_a_series(tmp_path: Path, keyword: str, vr: str, value: str) -> None:
    images = [image(k) for k in range(3)]
    for one in images if keyword != "ImagePositionPatient" else images[:1]:
        set_raw(one, keyword, vr, value)
    assert len(load(write(tmp_path, *images)).voxels) == 3


def test_spacing_with_a_decimal_comma_is_read(tmp_path: Path) -> None:
    images = [image(k) for k in range(3)]
    for one in images:
        set_raw(one, "PixelSpacing", "DS", "0,6696\\0,6696")
    assert load(write(tmp_path, *images)).pixel_spacing == pytest.approx((0.6696, 0.6696))


def test_spacing_that_is_no_number_is_refused(tmp_path: Path) -> None:
    dataset = image(0)
    set_raw(dataset, "PixelSpacing", "DS", "Amadeus\\0.6696")
    assert refusal(write(tmp_path, dataset)).reason is Reason.INVALID_GEOMETRY


def test_volume_refuses_inconsistent_parts() -> None:
    volume = oblique_volume(np.random.default_rng(0))
    parts = {name: getattr(volume, name) for name in SagittalVolume.__slots__}
    for change in (
        {"voxels": np.zeros((0, 8, 9), np.float32)},
        {"voxels": np.zeros((8, 9), np.float32)},
        {"origins": volume.origins[:3]},
        {"origins": np.full((5, 3), math.nan)},
        {"sources": ()},
        {"pixel_spacing": (math.nan, 0.5)},
        {"row_direction": volume.column_direction},
    ):
        with pytest.raises(NotAnalysable):
            SagittalVolume(**{**parts, **change})


# ---------------------------------------------------------------- series


def sizes(folder: Path) -> list[int]:
    return sorted(len(s) for s in group_series(read_headers([folder])[0]))


def test_one_uid_with_two_orientations_is_split(tmp_path: Path) -> None:
    turned: dict[str, Any] = {"ImageOrientationPatient": [1.0, 0, 0, 0, 1.0, 0]}
    axial = [image(k + 50, ImagePositionPatient=[0.0, -80.0, 4.4 * k], **turned) for k in range(2)]
    assert sizes(write(tmp_path, *[image(k) for k in range(5)], *axial)) == [2, 5]


def test_one_uid_with_two_matrices_is_split(tmp_path: Path) -> None:
    other = image(60, pixels=np.zeros((10, 10), "<u2"))
    assert sizes(write(tmp_path, *[image(k) for k in range(5)], other)) == [1, 5]


def test_one_uid_with_two_echoes_is_split(tmp_path: Path) -> None:
    assert sizes(write(tmp_path, *[image(k, EchoTime="100" if k % 2 else "12") for k in range(5)])) == [2, 3]


def test_one_uid_with_two_spacings_is_split(tmp_path: Path) -> None:
    assert sizes(write(tmp_path, *[image(k) for k in range(4)], image(60, PixelSpacing=[1.4, 1.6]))) == [1, 4]


def test_one_uid_with_slices_askew_is_split(tmp_path: Path) -> None:
    """One is turned by ten degrees, so together they would not be a stack."""
    turned = [math.sin(math.radians(10)), math.cos(math.radians(10)), 0.0, 0.0, 0.0, -1.0]
    assert sizes(write(tmp_path, image(0), image(1), image(2, ImageOrientationPatient=turned))) == [1, 2]


def test_rounding_of_the_direction_does_not_split(tmp_path: Path) -> None:
    jitter = [[0.0, 1.0, 1e-6 * k, 1e-6 * k, 0.0, -1.0] for k in range(4)]
    assert sizes(write(tmp_path, *[image(k, ImageOrientationPatient=j) for k, j in enumerate(jitter)])) == [4]


def test_flipped_direction_is_another_series(tmp_path: Path) -> None:
    flipped = image(50, ImageOrientationPatient=[0.0, -1.0, 0.0, 0.0, 0.0, -1.0])
    assert sizes(write(tmp_path, *[image(k) for k in range(3)], flipped)) == [1, 3]


def test_group_series_of_nothing() -> None:
    assert group_series([]) == []


def test_order_frames_needs_geometry() -> None:
    (header,) = frame_headers(image(0, ImagePositionPatient=None), Path("x"))
    with pytest.raises(NotAnalysable, match="position"):
        order_frames(Series((header,)))


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_lossless_encodings(tmp_path: Path, syntax: str) -> None:
    dataset = image(3)
    dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(load(write(tmp_path, dataset)).voxels[0], picture(3))


def test_implicit_little_endian(tmp_path: Path) -> None:
    dataset = image(3)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    np.testing.assert_array_equal(load(write(tmp_path, dataset)).voxels[0], picture(3))


def test_big_endian(tmp_path: Path) -> None:
    dataset = image(3, pixels=picture(3, ">u2"))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    np.testing.assert_array_equal(load(write(tmp_path, dataset)).voxels[0], picture(3))


@pytest.mark.parametrize("implicit", [True, False])
def test_no_file_meta_and_no_preamble(tmp_path: Path, implicit: bool) -> None:
    dataset = image(3)
    del dataset.file_meta
    path = tmp_path / "bare.dcm"
    dataset.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(load(tmp_path).voxels[0], picture(3))


def test_no_file_meta_big_endian(tmp_path: Path) -> None:
    dataset = image(3, pixels=picture(3, ">u2"))
    del dataset.file_meta
    dataset.save_as(tmp_path / "bare.dcm", implicit_vr=False, little_endian=False, enforce_file_format=False)
    np.testing.assert_array_equal(load(tmp_path).voxels[0], picture(3))


def test_signed_pixels_and_rescale(tmp_path: Path) -> None:
    signed = (picture(3).astype("<i4") - 600).astype("<i2")
    dataset = image(3, pixels=signed, PixelRepresentation=1, RescaleSlope="2.5", RescaleIntercept="-10")
    np.testing.assert_allclose(load(write(tmp_path, dataset)).voxels[0], signed * 2.5 - 10)


@pytest.mark.parametrize("slope", ["0", "1e30"])
def test_impossible_rescale_is_ignored(tmp_path: Path, slope: str) -> None:
    dataset = image(3, RescaleSlope=slope, RescaleIntercept="7")
    np.testing.assert_array_equal(load(write(tmp_path, dataset)).voxels[0], picture(3))


def test_monochrome1_is_turned_around(tmp_path: Path) -> None:
    voxels = load(write(tmp_path, image(3, PhotometricInterpretation="MONOCHROME1"))).voxels[0]
    assert np.corrcoef(voxels.ravel(), picture(3).ravel())[0, 1] == pytest.approx(-1)
    assert voxels.min() >= 0


def test_monochrome1_slices_stay_comparable(tmp_path: Path) -> None:
    dark = np.full((ROWS, COLUMNS), 10, "<u2")
    bright = np.full((ROWS, COLUMNS), 1000, "<u2")
    changes: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    volume = load(write(tmp_path, image(0, pixels=dark, **changes), image(1, pixels=bright, **changes)))
    assert volume.voxels[0].mean() - volume.voxels[1].mean() == pytest.approx(990)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("high", [11, 13, 15])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_bits_stored_are_taken_from_where_high_bit_says(tmp_path: Path, signed: bool, high: int, syntax: str) -> None:
    """12 bits at any place in 16; the other bits hold overlays and noise (PS3.5 8.1.1). A sign bit need not be extended."""
    values = picture(3).astype("<i4") - (600 if signed else 0)
    other = np.random.default_rng(5).integers(0, 2**16, values.shape)
    low = high - 11
    mask = 0xFFF << low
    stored = ((values & 0xFFF) << low) & mask | other & 0xFFFF & ~mask
    bits: dict[str, Any] = {"BitsStored": 12, "HighBit": high, "PixelRepresentation": int(signed)}
    dataset = image(3, pixels=stored.astype("<u2"), **bits)
    if syntax == RLELossless:
        dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(load(write(tmp_path, dataset)).voxels[0], values)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_overlay_bits_are_no_part_of_compressed_values(tmp_path: Path, syntax: str) -> None:
    dataset = image(3, pixels=picture(3) | np.uint16(1 << 15 | 1 << 13), BitsStored=12, HighBit=11)
    dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(load(write(tmp_path, dataset)).voxels[0], picture(3))


@pytest.mark.parametrize("syntax", COMPRESSED[1:])
def test_bits_at_another_place_in_compressed_data_are_refused(tmp_path: Path, syntax: str) -> None:
    dataset = image(3)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.BitsStored = 12
    error = refusal(write(tmp_path, dataset))
    assert error.reason is Reason.UNREADABLE_PIXELS
    assert "High Bit 15 with 12 bits stored" in error.detail


def test_eight_bits(tmp_path: Path) -> None:
    small = (picture(3) // 8).astype("u1")
    dataset = image(3, pixels=small, BitsAllocated=8, BitsStored=8, HighBit=7)
    np.testing.assert_array_equal(load(write(tmp_path, dataset)).voxels[0], small)


# ---------------------------------------------------------------- enhanced multi-frame


def item(**values: Any) -> Sequence:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])


def enhanced(count: int = 5, *, shared: bool = True) -> Dataset:
    dataset = image(0, pixels=np.stack([picture(k) for k in range(count)]))
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness", "EchoTime"):
        delattr(dataset, keyword)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    dataset.NumberOfFrames = count
    common, frames = Dataset(), []
    common.PixelMeasuresSequence = item(PixelSpacing=[0.7, 0.8], SliceThickness="4")
    common.PlaneOrientationSequence = item(ImageOrientationPatient=SAGITTAL)
    common.MREchoSequence = item(EffectiveEchoTime=101.0)
    for k in range(count):
        frame = Dataset()
        # Frames are stored from the other side: order must come from positions.
        frame.PlanePositionSequence = item(ImagePositionPatient=[4.4 * k, -80.0, 120.0])
        if not shared:
            frame.update(common)
        frames.append(frame)
    if shared:
        dataset.SharedFunctionalGroupsSequence = Sequence([common])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return dataset


@pytest.mark.parametrize("shared", [True, False])
def test_enhanced_frames(tmp_path: Path, shared: bool) -> None:
    volume = load(write(tmp_path, enhanced(shared=shared)))
    assert [s.frame_number for s in volume.sources] == [5, 4, 3, 2, 1]
    np.testing.assert_array_equal(volume.voxels, [picture(k) for k in (4, 3, 2, 1, 0)])
    assert volume.pixel_spacing == (0.7, 0.8)
    np.testing.assert_allclose(volume.to_patient(0, 0, 0), [17.6, -80, 120])


def test_enhanced_echo_time_is_read() -> None:
    headers = frame_headers(enhanced(), Path("x"))
    assert {h.echo_time for h in headers} == {101.0}
    assert [h.frame_number for h in headers] == [1, 2, 3, 4, 5]


def test_enhanced_rescale_per_frame(tmp_path: Path) -> None:
    dataset = enhanced(3)
    for k, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        frame.PixelValueTransformationSequence = item(RescaleSlope=str(k + 1), RescaleIntercept="5", RescaleType="US")
    volume = load(write(tmp_path, dataset))
    for source, voxels in zip(volume.sources, volume.voxels, strict=True):
        number = source.frame_number
        assert number is not None
        np.testing.assert_allclose(voxels, picture(number - 1) * float(number) + 5)


def test_enhanced_with_fewer_frames_than_groups(tmp_path: Path) -> None:
    dataset = enhanced(3)
    dataset.NumberOfFrames = 2
    dataset.PixelData = np.stack([picture(0), picture(1)]).tobytes()
    assert refusal(write(tmp_path, dataset)).reason is Reason.UNREADABLE_PIXELS


def test_enhanced_without_frames_is_unreadable(tmp_path: Path) -> None:
    dataset = enhanced(1)
    dataset.PerFrameFunctionalGroupsSequence = Sequence([])
    _, unreadable = read_headers([write(tmp_path, dataset)])
    assert "0 frames" in unreadable[0].why


# ---------------------------------------------------------------- damage


def test_truncated_pixel_data_is_refused(tmp_path: Path) -> None:
    dataset = image(0, pixels=picture(0)[:10], Rows=ROWS)
    error = refusal(write(tmp_path, dataset))
    assert error.reason is Reason.UNREADABLE_PIXELS
    assert "truncated" in error.detail


def test_file_cut_in_its_pixels_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, image(0)) / "001.dcm"
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(tmp_path).reason is Reason.UNREADABLE_PIXELS


@pytest.mark.parametrize("keep", [0, 1, 100, 131, 140, 200, 300, 400, 600])
def test_file_cut_in_its_header_never_raises(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path, image(0)) / "001.dcm"
    path.write_bytes(path.read_bytes()[:keep])
    headers, unreadable = read_headers([path])
    assert len(headers) + len(unreadable) == 1


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_corrupt_compressed_data_is_refused(tmp_path: Path, syntax: str) -> None:
    dataset = image(0)
    dataset.compress(syntax, generate_instance_uid=False)
    path = write(tmp_path, dataset) / "001.dcm"
    raw = bytearray(path.read_bytes())
    raw[-300:-40] = bytes(260)
    path.write_bytes(bytes(raw))
    # Some decoders conceal damage; then the shape must still be right.
    with contextlib.suppress(NotAnalysable):
        assert load(tmp_path).voxels.shape == (1, ROWS, COLUMNS)


@pytest.mark.parametrize("syntax", COMPRESSED)
def test_native_decoders_run_in_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str) -> None:
    """A decoder that aborts, as on hostile data, takes only the child process with it."""
    dataset = image(0)
    dataset.compress(syntax, generate_instance_uid=False)

    def aborts(path: Path, numbers: object) -> NDArray[np.float32]:
        raise AssertionError("decoded in this process")

    monkeypatch.setattr(series, "decode_frames", aborts)
    np.testing.assert_array_equal(load(write(tmp_path, dataset)).voxels[0], picture(0))


def test_rle_is_decoded_by_pydicom_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written in Python: what it refuses must not go on to a native decoder."""
    asked: list[str] = []
    monkeypatch.setitem(get_decoder(RLELossless)._available, "native", lambda *_: asked.append("native"))
    dataset = image(0)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.PixelData = dataset.PixelData.replace(dataset.PixelData[100:400], b"\x80" * 300)
    write(tmp_path, dataset)
    with pytest.raises(NotAnalysable, match="cannot be decoded"):
        decode_file(tmp_path / "001.dcm")
    assert asked == []


def test_colour_is_refused(tmp_path: Path) -> None:
    colour = np.zeros((ROWS, COLUMNS, 3), "u1")
    dataset = image(
        0, pixels=colour, Rows=ROWS, Columns=COLUMNS, SamplesPerPixel=3, PhotometricInterpretation="RGB",
        PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7,
    )  # fmt: skip
    error = refusal(write(tmp_path, dataset))
    assert error.reason is Reason.UNREADABLE_PIXELS
    assert "colour" in error.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"HighBit": 16},
        {"HighBit": 3},
        {"BitsStored": 17, "HighBit": 16},
        {"BitsStored": 0},
        {"BitsAllocated": 0},
        {"BitsAllocated": 12},
        {"PhotometricInterpretation": "PALETTE COLOR"},
        {"PhotometricInterpretation": "NONSENSE"},
        {"PhotometricInterpretation": None},
    ],
    ids=str,
)
def test_impossible_bits_and_photometric_interpretation_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert refusal(write(tmp_path, image(0, **changes))).reason is Reason.UNREADABLE_PIXELS


@pytest.mark.parametrize(
    "changes", [{"BitsStored": 12, "HighBit": 11}, {"BitsStored": 12, "HighBit": 15}, {"HighBit": None}]
)
def test_bits_of_real_devices_are_read(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert load(write(tmp_path, image(0, **changes))).voxels.shape == (1, ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("size", "reason", "why"),
    [
        ((65535, 65535, 1), Reason.FIELD_OF_VIEW_TOO_LARGE, "all of a series"),
        ((5000, 5000, 1), Reason.UNREADABLE_PIXELS, "exceed the limit"),
        ((4000, 4000, 500), Reason.UNREADABLE_PIXELS, "exceed the limit"),
        ((4000, 4000, 1), Reason.UNREADABLE_PIXELS, "truncated"),
    ],
)
def test_huge_matrix_with_tiny_data_is_refused_before_allocation(
    tmp_path: Path, size: tuple[int, int, int], reason: Reason, why: str
) -> None:
    error = refusal(write(tmp_path, image(0, Rows=size[0], Columns=size[1], NumberOfFrames=size[2])))
    assert error.reason is reason
    assert why in error.detail


@pytest.mark.parametrize("syntax", COMPRESSED)
@pytest.mark.parametrize(("rows", "columns", "frames"), [(4000, 4000, 1), (40, 36, 100_000), (4000, 4000, 500)])
def test_compressed_data_smaller_than_the_header_claims(
    tmp_path: Path, syntax: str, rows: int, columns: int, frames: int
) -> None:
    dataset = image(0)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, frames
    assert refusal(write(tmp_path, dataset)).reason is Reason.UNREADABLE_PIXELS


def test_no_pixel_data(tmp_path: Path) -> None:
    assert refusal(write(tmp_path, image(0, PixelData=None))).reason is Reason.UNREADABLE_PIXELS


@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(5000), b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(128) + b"DICM"]
)
def test_files_that_are_no_dicom(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    headers, unreadable = read_headers([tmp_path])
    assert headers == []
    assert len(unreadable) == 1
    assert unreadable[0].why


def test_random_bytes_never_raise(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    good = (write(tmp_path / "good", image(0)) / "001.dcm").read_bytes()
    folder = tmp_path / "bad"
    folder.mkdir()
    for k in range(60):
        raw = bytearray(good)
        for place in rng.integers(128, len(raw) - ROWS * COLUMNS * 2, 6):
            raw[place] = int(rng.integers(256))
        (folder / f"{k}.dcm").write_bytes(bytes(raw))
    headers, _ = read_headers([folder])
    for group in group_series(headers):
        with contextlib.suppress(NotAnalysable):
            load_volume(group)


@pytest.mark.parametrize("changes", [{"Rows": 0}, {"Rows": None}, {"SOPInstanceUID": None}])
def test_what_is_no_image_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "x.dcm"
    dataset = image(0, **changes)
    dataset.save_as(path, enforce_file_format=False)
    headers, unreadable = read_headers([path])
    assert headers == []
    assert unreadable[0].path == path


def test_missing_file_is_unreadable(tmp_path: Path) -> None:
    headers, unreadable = read_headers([tmp_path / "nothing.dcm"])
    assert (headers, len(unreadable)) == ([], 1)


def test_empty_attributes_are_absent_values() -> None:
    changes = dict.fromkeys(("EchoTime", "RepetitionTime", "SeriesNumber", "SliceThickness"), "")
    (header,) = frame_headers(image(0, **changes), Path("x"))
    assert (header.echo_time, header.repetition_time, header.series_number, header.slice_thickness) == (None,) * 4


def test_find_files_goes_down_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("z", "a/y", "a/b/x"):
        (tmp_path / name).touch()
    assert [p.name for p in find_files([tmp_path])] == ["x", "y", "z"]


def test_decode_file_gives_all_frames(tmp_path: Path) -> None:
    write(tmp_path, enhanced(4))
    assert decode_file(tmp_path / "001.dcm").shape == (4, ROWS, COLUMNS)


def test_read_dataset_names_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no")
    with pytest.raises(ValueError, match="not"):
        read_dataset(tmp_path / "x", pixels=False)
