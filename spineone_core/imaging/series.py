"""From frame headers to series, and from a series to a `SagittalVolume`: grouping, order of slices, decoding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID

from spineone_core.arrays import FloatArray
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.isolation import DecoderError, decode_isolated
from spineone_core.imaging.pixels import decode_frames
from spineone_core.imaging.stacks import Stack, build_stacks
from spineone_core.imaging.steps import SAME_POSITION_MM
from spineone_core.imaging.volume import SagittalVolume, SliceSource

# Of a series that is decoded: 512 MiB as float32, which is 128 slices of 1024 x 1024.
MOST_VOXELS = 2**27


@dataclass(frozen=True, slots=True)
class Series:
    """Frames of one stack (see `spineone_core.imaging.stacks`), which may lie under one SeriesInstanceUID or several.

    ``copies`` are equal to one of the frames in all that is read of a header but the SOP Instance UID. ``notes`` are what a
    reader of the result should know of how the stack was made. ``fault`` says why it cannot be read; then only the first frame is
    here.
    """

    frames: tuple[FrameHeader, ...]
    copies: tuple[FrameHeader, ...] = ()
    notes: tuple[str, ...] = ()
    fault: str = ""

    @property
    def first(self) -> FrameHeader:
        """The header of the first frame."""
        return self.frames[0]

    @property
    def uid(self) -> str:
        """Series Instance UID of the first frame."""
        return self.first.series_uid

    def __len__(self) -> int:
        return len(self.frames)


def group_series(headers: Iterable[FrameHeader]) -> list[Series]:
    """Frames as stacks. Within one UID the largest comes first, of those as large the later acquisition."""
    stacks = sorted(build_stacks(headers), key=_rank)
    return [Series(stack.frames, stack.copies, stack.notes, stack.fault) for stack in stacks]


def _rank(stack: Stack) -> tuple[object, ...]:
    first = stack.frames[0]
    number, moment = stack.latest
    return first.series_number or 0, first.series_uid, -len(stack.frames), -number, -moment, first.sop_instance_uid


def order_frames(series: Series) -> tuple[list[FrameHeader], list[str]]:
    """Frames ordered by position along the normal, never by InstanceNumber; and what is to be said of their steps.

    Raises
    ------
    NotAnalysable
        ``invalid_geometry`` if a frame has no orientation, position or spacing, or two are at one position.
    """
    if series.fault:
        raise NotAnalysable(Reason.INVALID_GEOMETRY, f"a series {series.fault}")
    for name in ("orientation", "position", "pixel_spacing"):
        if any(getattr(frame, name) is None for frame in series.frames):
            raise NotAnalysable(Reason.INVALID_GEOMETRY, f"{name.replace('_', ' ')} is missing or not a number")
    normal = series.first.normal
    assert normal is not None
    placed = sorted(dict.fromkeys(series.frames), key=lambda f: float(np.dot(f.position, normal)))  # type: ignore[arg-type]
    steps = np.diff([float(np.dot(f.position, normal)) for f in placed])  # type: ignore[arg-type]
    if (steps < SAME_POSITION_MM).any():
        raise NotAnalysable(Reason.INVALID_GEOMETRY, "several slices at one position")
    return placed, _step_warnings(steps)


def _step_warnings(steps: FloatArray) -> list[str]:
    if len(steps) < 2:
        return []
    return ["slices are missing or unevenly spaced"] if steps.max() > 1.5 * np.median(steps) else []


def load_volume(series: Series, *, isolate: bool = True) -> SagittalVolume:
    """Decode a series into a volume.

    Parameters
    ----------
    isolate
        Decode RLE, JPEG, JPEG-LS and JPEG 2000 in a child process (about half a second for a series). Turn it off for
        trusted files only.

    Raises
    ------
    NotAnalysable
        ``invalid_geometry``, ``field_of_view_too_large`` or ``unreadable_pixels``, with what was wrong.
    """
    frames, warnings = order_frames(series)
    voxels = _decode(frames, isolate)
    _check_copies(series, frames, voxels, isolate)
    first = frames[0]
    assert first.orientation is not None
    assert first.pixel_spacing is not None
    return SagittalVolume(
        voxels=voxels,
        origins=np.array([f.position for f in frames], dtype=float),
        row_direction=np.array(first.orientation[:3]),
        column_direction=np.array(first.orientation[3:]),
        pixel_spacing=first.pixel_spacing,
        sources=tuple(
            SliceSource(f.path, f.sop_instance_uid, f.sop_class_uid, f.frame_number, f.series_uid) for f in frames
        ),
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        window=first.window,
        warnings=(*series.notes, *warnings),
    )


def _check_copies(series: Series, frames: list[FrameHeader], voxels: NDArray[np.float32], isolate: bool) -> None:
    """Headers that are equal do not prove that the pictures are."""
    if not series.copies:
        return
    places = {frame.position: index for index, frame in enumerate(frames)}
    for copy, picture in zip(series.copies, _decode(list(series.copies), isolate), strict=True):
        if not np.array_equal(picture, voxels[places[copy.position]]):
            raise NotAnalysable(
                Reason.INVALID_GEOMETRY, "different pictures at one position that no attribute tells apart"
            )


def _decode(frames: list[FrameHeader], isolate: bool) -> NDArray[np.float32]:
    """The frames as (slices, rows, columns), each decoded straight into its place."""
    shape = frames[0].rows, frames[0].columns
    _check_size(len(frames), *shape)
    places: dict[Path, list[tuple[int, int]]] = defaultdict(list)
    for place, frame in enumerate(frames):
        places[frame.path].append((place, (frame.frame_number or 1) - 1))
    apart = {path for path in places if isolate and _is_compressed(path)}
    voxels = np.empty((len(frames), *shape), np.float32)
    for path in places.keys() - apart:
        for (place, _), picture in zip(places[path], decode_frames(path, _numbers(places[path])), strict=True):
            if picture.shape != shape:
                raise NotAnalysable(
                    Reason.UNREADABLE_PIXELS, f"pixel data hold {picture.shape}, the header says otherwise"
                )
            voxels[place] = picture
    _decode_apart({path: places[path] for path in places if path in apart}, voxels)
    return voxels


def _decode_apart(places: dict[Path, list[tuple[int, int]]], voxels: NDArray[np.float32]) -> None:
    """Decode compressed files in a child process, into ``voxels``."""
    if not places:
        return
    pictures = decode_isolated([(path, _numbers(of)) for path, of in places.items()], voxels.shape[1:])
    try:
        for (place, _), picture in zip((pair for of in places.values() for pair in of), pictures, strict=True):
            voxels[place] = picture
    except DecoderError as error:
        raise NotAnalysable(Reason.UNREADABLE_PIXELS, str(error)) from error


def _numbers(places: list[tuple[int, int]]) -> list[int]:
    return [number for _, number in places]


def _check_size(slices: int, rows: int, columns: int) -> None:
    """Check what the headers announce before anything is decoded; a file of a few bytes can announce any number."""
    if slices * rows * columns > MOST_VOXELS:
        detail = f"{slices} slices of {rows} x {columns} pixels; all of a series may have {MOST_VOXELS}"
        raise NotAnalysable(Reason.FIELD_OF_VIEW_TOO_LARGE, detail)


def _is_compressed(path: Path) -> bool:
    """Whether the pixel data need a decoder."""
    try:
        syntax = UID(read_dataset(path, pixels=False).file_meta.TransferSyntaxUID)
    except (OSError, ValueError):
        return False
    return not syntax.is_transfer_syntax or bool(syntax.is_encapsulated)
