"""From frame headers to series, and from a series to a `SagittalVolume`: grouping, order of slices, decoding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import UID, RLELossless

from spineone_core.arrays import FloatArray
from spineone_core.findings import NotAnalysable, Reason
from spineone_core.imaging.files import read_dataset
from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.isolation import DecoderError, decode_isolated
from spineone_core.imaging.pixels import decode_file
from spineone_core.imaging.volume import SagittalVolume, SliceSource

# Two slices closer than this (mm along the normal) are the same position.
SAME_POSITION_MM = 0.05
# Directions are one orientation where the cosine between them is larger than this (about 2.5 degrees).
SAME_ORIENTATION_COSINE = 0.999


@dataclass(frozen=True, slots=True)
class Series:
    """Frames of one series that share matrix, orientation, spacing and echo."""

    frames: tuple[FrameHeader, ...]

    @property
    def first(self) -> FrameHeader:
        """The header of the first frame."""
        return self.frames[0]

    @property
    def uid(self) -> str:
        """Series Instance UID."""
        return self.first.series_uid

    def __len__(self) -> int:
        return len(self.frames)


def group_series(headers: Iterable[FrameHeader]) -> list[Series]:
    """Split frames into series that share matrix, spacing, orientation and echo; within one UID the largest comes first.

    Studies often mix a scout and the diagnostic slices, or two echoes, under one UID.
    """
    groups: dict[tuple[Any, ...], list[FrameHeader]] = defaultdict(list)
    orientations: list[FloatArray] = []
    for header in headers:
        spacing = tuple(round(v, 4) for v in header.pixel_spacing) if header.pixel_spacing else None
        echo = None if header.echo_time is None else round(header.echo_time)
        orientation = _orientation_index(header, orientations)
        groups[header.series_uid, header.rows, header.columns, spacing, echo, orientation].append(header)
    series = [Series(tuple(frames)) for frames in groups.values()]
    return sorted(series, key=lambda s: (s.first.series_number or 0, s.uid, -len(s)))


def _orientation_index(header: FrameHeader, known: list[FloatArray]) -> int | None:
    if header.orientation is None:
        return None
    cosines = np.asarray(header.orientation)
    for index, other in enumerate(known):
        if min(cosines[:3] @ other[:3], cosines[3:] @ other[3:]) > SAME_ORIENTATION_COSINE:
            return index
    known.append(cosines)
    return len(known) - 1


def order_frames(series: Series) -> tuple[list[FrameHeader], list[str]]:
    """Frames ordered by position along the normal, never by InstanceNumber. Of several at one position the first is kept.

    Raises
    ------
    NotAnalysable
        ``invalid_geometry`` if a frame has no orientation, position or spacing.
    """
    for name in ("orientation", "position", "pixel_spacing"):
        if any(getattr(frame, name) is None for frame in series.frames):
            raise NotAnalysable(Reason.INVALID_GEOMETRY, f"{name.replace('_', ' ')} is missing or not a number")
    normal = series.first.normal
    assert normal is not None
    placed = sorted(series.frames, key=lambda f: (float(np.dot(f.position, normal)), f.sop_instance_uid))  # type: ignore[arg-type]
    kept: list[FrameHeader] = []
    for frame in placed:
        if kept and float(np.dot(np.subtract(frame.position, kept[-1].position), normal)) < SAME_POSITION_MM:  # type: ignore[arg-type]
            continue
        kept.append(frame)
    warnings = [] if len(kept) == len(placed) else [f"{len(placed) - len(kept)} slices at duplicate positions left out"]
    return kept, warnings + _step_warnings(kept, normal)


def _step_warnings(frames: list[FrameHeader], normal: FloatArray) -> list[str]:
    if len(frames) < 3:
        return []
    steps = np.diff([float(np.dot(f.position, normal)) for f in frames])  # type: ignore[arg-type]
    return ["slices are missing or unevenly spaced"] if steps.max() > 1.5 * np.median(steps) else []


def load_volume(series: Series, *, isolate: bool = True) -> SagittalVolume:
    """Decode a series into a volume.

    Parameters
    ----------
    isolate
        Decode JPEG, JPEG-LS and JPEG 2000 in a child process (about half a second for a series). Turn it off for trusted
        files only.

    Raises
    ------
    NotAnalysable
        ``invalid_geometry`` or ``unreadable_pixels``, with what was wrong.
    """
    frames, warnings = order_frames(series)
    voxels = _decode(frames, isolate)
    first = frames[0]
    assert first.orientation is not None
    assert first.pixel_spacing is not None
    return SagittalVolume(
        voxels=voxels,
        origins=np.array([f.position for f in frames], dtype=float),
        row_direction=np.array(first.orientation[:3]),
        column_direction=np.array(first.orientation[3:]),
        pixel_spacing=first.pixel_spacing,
        sources=tuple(SliceSource(f.path, f.sop_instance_uid, f.sop_class_uid, f.frame_number) for f in frames),
        study_uid=first.study_uid,
        series_uid=first.series_uid,
        window=first.window,
        warnings=tuple(warnings),
    )


def _decode(frames: list[FrameHeader], isolate: bool) -> NDArray[np.float32]:
    first = frames[0]
    decoded = _decode_files(list(dict.fromkeys(frame.path for frame in frames)), isolate)
    slices = []
    for frame in frames:
        stack, index = decoded[frame.path], (frame.frame_number or 1) - 1
        if index >= len(stack) or stack.shape[1:] != (first.rows, first.columns):
            raise NotAnalysable(Reason.UNREADABLE_PIXELS, f"pixel data hold {stack.shape}, the header says otherwise")
        slices.append(stack[index])
    return np.stack(slices)


def _decode_files(paths: list[Path], isolate: bool) -> dict[Path, NDArray[np.float32]]:
    """The frames of each file. Compressed files are decoded in a child process unless told otherwise, the others here."""
    apart = [path for path in paths if isolate and _needs_library(path)]
    try:
        decoded = dict(zip(apart, decode_isolated(apart), strict=True)) if apart else {}
    except DecoderError as error:
        raise NotAnalysable(Reason.UNREADABLE_PIXELS, str(error)) from error
    return decoded | {path: decode_file(path) for path in paths if path not in decoded}


def _needs_library(path: Path) -> bool:
    """Whether the pixel data need a native decoder (pydicom decodes RLE itself, in Python)."""
    try:
        syntax = UID(read_dataset(path, pixels=False).file_meta.TransferSyntaxUID)
    except (OSError, ValueError):
        return False
    return syntax != RLELossless and (not syntax.is_transfer_syntax or syntax.is_encapsulated)
