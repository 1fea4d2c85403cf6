"""What is one stack: frames that share every fact, lie on one line in even steps and come from one acquisition.

A SeriesInstanceUID is only where it begins: what lies under one may be several stacks, and one stack may lie under several.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from spineone_core.imaging.acquisitions import Volume, in_succession, seconds_of, volumes_of
from spineone_core.imaging.headers import FrameHeader
from spineone_core.imaging.kinds import classes_by, differences, same_kind, split_by_kind
from spineone_core.imaging.steps import Placed, has_geometry, is_joined_stack, on_one_line, place, split_by_line


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Frames by position.

    Parameters
    ----------
    fault
        Why they are no stack that can be read: then only the first frame is here.
    copies
        Frames that are equal to one of the stack's in all that is read of a header but the SOP Instance UID.
    notes
        What was left out or put together, for a reader of the result.
    latest
        Acquisition number and moment: of two stacks the later has the greater.
    """

    frames: tuple[FrameHeader, ...]
    fault: str = ""
    copies: tuple[FrameHeader, ...] = ()
    notes: tuple[str, ...] = ()
    latest: tuple[float, float] = (0.0, 0.0)


def build_stacks(headers: Iterable[FrameHeader]) -> list[Stack]:
    """All frames of a study as stacks; the order of the headers does not matter.

    Frames without geometry are grouped by the other facts; they cannot be read.
    """
    ordered = sorted(headers, key=lambda h: (h.series_uid, h.sop_instance_uid, h.frame_number or 0, str(h.path)))
    unplaced: list[Stack] = []
    volumes: list[Volume] = []
    for series in classes_by(ordered, lambda h: h.series_uid):
        for kind in split_by_kind(series):
            placed = [frame for frame in kind if has_geometry(frame)]
            if rest := [frame for frame in kind if not has_geometry(frame)]:
                unplaced.append(Stack(tuple(rest)))
            if placed:
                volumes += [volume for line in split_by_line(place(placed)) for volume in volumes_of(line)]
    stacks = [_stack(volume) for volume in _join_torn(volumes)] + unplaced
    return [_with_notes(stack, ordered) for stack in stacks]


def _stack(volume: Volume) -> Stack:
    frames = tuple(one.frame for one in volume.slices)
    copies = tuple(one.frame for one in volume.copies)
    return Stack(frames, volume.fault, copies, latest=volume.latest)


# ---------------------------------------------------------------- one stack under several UIDs


def _join_torn(volumes: Sequence[Volume]) -> list[Volume]:
    """Volumes, those together that only their series UIDs tear apart."""
    alike: list[list[Volume]] = []
    for volume in volumes:
        first = volume.slices[0].frame
        bucket = None
        if not volume.fault:
            bucket = next((b for b in alike if not b[0].fault and same_kind(b[0].slices[0].frame, first)), None)
        if bucket is None:
            alike.append([volume])
        else:
            bucket.append(volume)
    return [joined for bucket in alike for line in _on_lines(bucket) for joined in _join(line)]


def _on_lines(volumes: list[Volume]) -> list[list[Volume]]:
    """Volumes of one kind that lie on one line, with their places along one normal."""
    if len(volumes) == 1:
        return [volumes]
    places = {id(p.frame): p for p in place([one.frame for volume in volumes for one in volume.slices])}
    lines: list[list[Volume]] = []
    for volume in volumes:
        slices = sorted((places[id(one.frame)] for one in volume.slices), key=lambda p: p.along)
        moved = Volume(slices, volume.fault, volume.copies)
        line = next((line for line in lines if on_one_line([*line[0].slices, *slices])), None)
        if line is None:
            lines.append([moved])
        else:
            line.append(moved)
    return lines


def _join(volumes: list[Volume]) -> list[Volume]:
    if len({volume.slices[0].frame.series_uid for volume in volumes}) < 2:
        return volumes
    parts = [volume.slices for volume in volumes]
    if is_joined_stack(parts):
        return [_joined(volumes)]
    for key in _KEYS_OF_AN_ACQUISITION:
        frames = {id(volume.slices[0].frame): volume for volume in volumes}
        classes = classes_by((volume.slices[0].frame for volume in volumes), key)
        if len(classes) > 1:
            return [joined for one in classes for joined in _join([frames[id(frame)] for frame in one])]
    return _join_by_moment(volumes)


def _join_by_moment(volumes: list[Volume]) -> list[Volume]:
    moments = [seconds_of(volume.slices[0].frame.acquired_at) for volume in volumes]
    if any(moment is None for moment in moments) or len(set(moments)) < len(moments):
        return volumes
    order = sorted(range(len(volumes)), key=lambda k: moments[k] or 0.0)
    by_slice = {id(volumes[k].slices[0]): volumes[k] for k in order}
    joined = in_succession([volumes[k].slices for k in order], [moments[k] or 0.0 for k in order])
    if joined is None:
        return volumes
    groups = [[by_slice[id(one)] for one in slices if id(one) in by_slice] for slices in joined]
    return [_joined(group) for group in groups]


def _joined(volumes: Sequence[Volume]) -> Volume:
    slices: list[Placed] = sorted((one for volume in volumes for one in volume.slices), key=lambda p: p.along)
    return Volume(slices, "", tuple(copy for volume in volumes for copy in volume.copies))


_KEYS_OF_AN_ACQUISITION: tuple[Callable[[FrameHeader], Hashable], ...] = (
    lambda f: f.acquisition_number,
    lambda f: f.series_number,
)


# ---------------------------------------------------------------- what a reader should know


def _with_notes(stack: Stack, headers: Sequence[FrameHeader]) -> Stack:
    uids = {frame.series_uid for frame in stack.frames}
    notes = []
    if len(uids) > 1:
        notes.append(f"the series is put together from {len(uids)} Series Instance UIDs")
    if stack.copies:
        notes.append(f"{len(stack.copies)} slices at duplicate positions left out: copies under another UID")
    frames = stack.frames[:1] if stack.fault else stack.frames
    mine = {id(frame) for frame in (*frames, *stack.copies)}
    others = [h for h in headers if h.series_uid in uids and id(h) not in mine]
    if others:
        why = sorted({reason for h in others for reason in _reasons(h, stack)})
        notes.append(f"{len(others)} other images of the series are not used: they differ in {', '.join(why)}")
    return Stack(frames, stack.fault, stack.copies, tuple(notes), stack.latest)


def _reasons(header: FrameHeader, stack: Stack) -> list[str]:
    if not has_geometry(header) or not has_geometry(stack.frames[0]):
        return ["geometry"]
    if different := differences(header, stack.frames[0]):
        return different
    return ["acquisition" if on_one_line(place([*stack.frames, header])) else "place"]
