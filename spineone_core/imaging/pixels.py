"""The pixel data of a file as modality values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import RLELossless

from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.headers import MAX_FRAMES, first_number

MAX_PIXELS_PER_FRAME = 4096 * 4096
# For all frames of a file together: 1 GiB as float32.
MAX_PIXELS_PER_FILE = 2**28


def decode_file(path: Path) -> NDArray[np.float32]:
    """All frames of a file as (frames, rows, columns) float32 modality values.

    Raises
    ------
    NotAnalysable
        ``unreadable_pixels`` if the data are truncated, corrupt, in colour or too large.
    """
    dataset = _read(path)
    return _modality_values(stored_values(dataset), dataset)


def decode_frames(path: Path, numbers: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Some frames of a file (counted from 0) as (rows, columns) float32 modality values, decoded one after the other.

    Raises
    ------
    NotAnalysable
        As `decode_file`; also if the file has no such frame.
    """
    dataset = _read(path)
    for number in numbers:
        yield _modality_values(stored_values(dataset, number), dataset, first=number)[0]


def _read(path: Path) -> Dataset:
    try:
        return read_dataset(path, pixels=True)
    except ValueError as error:
        raise NotAnalysable(Reason.UNREADABLE_PIXELS, f"pixel data cannot be decoded: {error}") from error


def stored_values(dataset: Dataset, number: int | None = None) -> NDArray[Any]:
    """The stored values of an image as (frames, rows, columns), before any rescaling.

    With a ``number`` (counted from 0), only that frame is decoded, and is the only one of the result.

    Raises
    ------
    NotAnalysable
        ``unreadable_pixels``, as `decode_file`.
    """
    try:
        _check_pixel_module(dataset)
        # For RLE, pydicom would fall back on a native decoder, which may abort on data that pydicom's own refuses.
        plugin = "pydicom" if dataset.file_meta.TransferSyntaxUID == RLELossless else ""
        dataset.pixel_array_options(index=number, decoding_plugin=plugin)
        pixels = _aligned(dataset)
    except NotAnalysable:
        raise
    except Exception as error:  # decoders raise many types on corrupt data
        raise NotAnalysable(
            Reason.UNREADABLE_PIXELS, f"pixel data cannot be decoded: {type(error).__name__}"
        ) from error
    return pixels[None] if pixels.ndim == 2 else pixels


def _aligned(dataset: Dataset) -> NDArray[Any]:
    """The decoded values; where High Bit is not the last of the bits stored, they are moved down to bit 0 (PS3.5 8.1.1).

    pydicom takes the lowest bits whatever High Bit says. Bits above and below those stored (overlays, noise) are dropped.
    """
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    high = int(dataset.get("HighBit", stored - 1))
    if high == stored - 1:
        return np.asarray(dataset.pixel_array)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated and syntax != RLELossless:
        detail = f"High Bit {high} with {stored} bits stored cannot be told in compressed pixel data"
        raise NotAnalysable(Reason.UNREADABLE_PIXELS, detail)
    dataset.BitsStored, dataset.HighBit = allocated, allocated - 1
    try:
        pixels = np.array(dataset.pixel_array)
    finally:
        dataset.BitsStored, dataset.HighBit = stored, high
    return (pixels << (allocated - 1 - high)) >> (allocated - stored)


def _check_pixel_module(dataset: Dataset) -> None:
    if int(dataset.get("SamplesPerPixel", 1) or 1) != 1:
        raise NotAnalysable(Reason.UNREADABLE_PIXELS, "colour image (SamplesPerPixel is not 1)")
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        # The stored values of a palette image are not intensities.
        raise NotAnalysable(Reason.UNREADABLE_PIXELS, "not a greyscale image (PhotometricInterpretation)")
    _check_bits(dataset)
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    pixels = int(dataset.Rows) * int(dataset.Columns)
    if pixels > MAX_PIXELS_PER_FRAME or frames > MAX_FRAMES or pixels * frames > MAX_PIXELS_PER_FILE:
        raise NotAnalysable(
            Reason.UNREADABLE_PIXELS, f"{frames} x {dataset.Rows} x {dataset.Columns} pixels exceed the limit"
        )
    syntax = dataset.file_meta.TransferSyntaxUID
    stored = len(dataset.get("PixelData", b"") or b"")
    expected = frames * pixels * int(dataset.BitsAllocated) // 8
    if not syntax.is_encapsulated and stored < expected:
        raise NotAnalysable(Reason.UNREADABLE_PIXELS, f"pixel data truncated: {stored} bytes of {expected}")


def _check_bits(dataset: Dataset) -> None:
    """The bits stored must lie within the bits allocated (PS3.5 8.1.1); decoders do not look at High Bit."""
    allocated, stored = int(dataset.get("BitsAllocated", 0) or 0), int(dataset.get("BitsStored", 0) or 0)
    high = int(dataset.get("HighBit", stored - 1))
    if not (0 < stored <= allocated and stored - 1 <= high < allocated):
        detail = f"impossible bits: {allocated} allocated, {stored} stored, high bit {high}"
        raise NotAnalysable(Reason.UNREADABLE_PIXELS, detail)


def _modality_values(frames: NDArray[Any], dataset: Dataset, *, first: int = 0) -> NDArray[np.float32]:
    """Undo MONOCHROME1, then rescale each frame (``first`` is the number of the first one, counted from 0).

    Intensities are normalised later, for a whole series.
    """
    values = frames.astype(np.float32)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        # Mirrored at the middle of the stored range, which is the same for every image of a series.
        bits, signed = int(dataset.get("BitsStored", 16)), bool(dataset.get("PixelRepresentation", 0))
        values = np.float32(-1 if signed else 2**bits - 1) - values
    for index, value in enumerate(values, start=first):
        slope, intercept = rescale_of(dataset, index)
        if (slope, intercept) != (1.0, 0.0):
            value *= np.float32(slope)
            value += np.float32(intercept)
    return values


def rescale_of(dataset: Dataset, index: int) -> tuple[float, float]:
    """Slope and intercept of a frame (counted from 0); an impossible slope is ignored."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = list(per_frame[index : index + 1]) + list(dataset.get("SharedFunctionalGroupsSequence") or [])
    items = [
        group.PixelValueTransformationSequence[0] for group in groups if group.get("PixelValueTransformationSequence")
    ]
    place = next(iter(items), dataset)
    slope, intercept = first_number(place.get("RescaleSlope")), first_number(place.get("RescaleIntercept"))
    return (slope, intercept or 0.0) if slope is not None and 1e-6 < abs(slope) < 1e6 else (1.0, 0.0)
