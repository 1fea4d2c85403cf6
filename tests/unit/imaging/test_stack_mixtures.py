"""No mixture of two volumes is ever made one stack: series out of the headers of three phantoms, mixed as archives mix them."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from spineone_core.detection.detector import Detector
from spineone_core.imaging.headers import FrameHeader, read_headers
from spineone_core.imaging.series import Series, group_series
from spineone_core.phantom.dicom import write_exam

SEEDS = (1, 2, 3)
KINDS = (
    ("ORIGINAL", "PRIMARY", "M", "ND"),
    ("ORIGINAL", "PRIMARY", "P", "ND"),
    ("DERIVED", "PRIMARY", "W", "W", "DERIVED"),
)
# The last is wider than a stack and a gap.
SHIFTS_MM = (0.0, 0.3, 1.3, 2.2, 130.0)
OFFSETS_MM = (0.0, 9.0, 260.0)


@cache
def phantom(seed: int) -> tuple[FrameHeader, ...]:
    """Headers of a phantom's T2 series, from one side to the other."""
    headers, _ = read_headers(files_of(seed))
    return tuple(headers)


@cache
def files_of(seed: int) -> tuple[Path, ...]:
    folder = TemporaryDirectory()
    atexit.register(folder.cleanup)
    return write_exam(Path(folder.name), seed, companions=False).files["t2"]


@dataclass(frozen=True)
class Mixed:
    """How a volume is put among the others. Two with equal values cannot be told apart by that value."""

    seed: int
    geometry: int
    shift: float
    offset: float
    uid: str
    kind: int
    echo: float
    echo_number: int | None
    temporal: int | None
    description: str
    numbers: str
    first_number: int
    times: str
    start: int
    count: int
    missing: int | None

    def told_from(self, other: Mixed) -> bool:
        """Whether every slice differs from every slice of another volume in a fact that no volume mixes."""
        known = [(self.echo_number, other.echo_number), (self.temporal, other.temporal)]
        numbered = self.numbers == other.numbers == "one" and self.first_number != other.first_number
        return (
            self.kind != other.kind
            or self.echo != other.echo
            or any(a is not None and b is not None and a != b for a, b in known)
            or (self.geometry == other.geometry and self.offset != other.offset)
            or numbered
        )


volumes = st.builds(
    Mixed,
    seed=st.sampled_from(SEEDS),
    geometry=st.sampled_from((1, 1, 1, 2)),
    shift=st.sampled_from((0.0, 0.0, *SHIFTS_MM)),
    offset=st.sampled_from((0.0, 0.0, *OFFSETS_MM)),
    uid=st.sampled_from(("shared", "shared", "own", "slice")),
    kind=st.sampled_from((0, 0, 1, 2)),
    echo=st.sampled_from((102.0, 102.0, 102.0, 14.0)),
    echo_number=st.sampled_from((None, 1, 2)),
    temporal=st.sampled_from((None, None, 1, 2)),
    description=st.sampled_from(("t2_tse_sag", "t2_tse_sag", "t2_tse_sag_2")),
    numbers=st.sampled_from(("none", "one", "one", "turns", "slices")),
    first_number=st.sampled_from((1, 1, 3, 40)),
    times=st.sampled_from(("none", "one", "slices")),
    start=st.sampled_from((0, 600, 1200)),
    count=st.sampled_from((15, 15, 15, 7)),
    missing=st.sampled_from((None, None, 0, 6)),
)


def slices_of(one: Mixed, index: int, rng: Any) -> list[FrameHeader]:
    """The slices of a volume under their new headers; the path names the volume (the truth)."""
    places = phantom(one.geometry)
    pictures = phantom(one.seed)
    count = min(one.count, len(places), len(pictures))
    frames = []
    for k in range(count):
        if k == one.missing:
            continue
        place, picture = places[k], pictures[k]
        assert place.position is not None
        assert place.orientation is not None
        assert place.normal is not None
        moved = np.array(place.position) + one.shift * place.normal + one.offset * np.array(place.orientation[3:])
        frames.append(
            replace(
                picture,
                path=Path(f"volume{index}") / f"{k}.dcm",
                study_uid="1.2",
                series_uid={"shared": "1.3", "own": f"1.4.{index}", "slice": f"1.5.{index}.{k}"}[one.uid],
                sop_instance_uid=f"2.25.{rng.getrandbits(100)}",
                frame_of_reference_uid="1.6",
                series_number=4,
                rows=place.rows,
                columns=place.columns,
                pixel_spacing=place.pixel_spacing,
                orientation=place.orientation,
                position=tuple(float(v) for v in moved),
                slice_thickness=place.slice_thickness,
                spacing_between_slices=place.spacing_between_slices,
                image_type=KINDS[one.kind],
                echo_time=one.echo + 0.2 * (k % 2),
                echo_number=one.echo_number,
                temporal_position=one.temporal,
                series_description=one.description,
                acquisition_number={
                    "none": None,
                    "one": one.first_number,
                    "turns": one.first_number + k % 2,
                    "slices": one.first_number + k,
                }[one.numbers],
                acquired_at={"none": "", "one": clock(one.start, 0), "slices": clock(one.start, k)}[one.times],
                # What is equal in everything but the UID is a copy.
                instance_number=1000 * index + rng.randrange(1000),
            )
        )
    return frames


def clock(start: int, k: int) -> str:
    minutes, seconds = divmod(start + 3 * k, 60)
    return f"10{minutes:02}{seconds:02}.25"


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[list[Mixed], list[FrameHeader]]:
    drawn = draw(st.lists(volumes, min_size=2, max_size=3))
    # Two acquisitions never happen at the same time.
    drawn = [replace(one, start=one.start + 3000 * k * (one.times == "slices") // 10) for k, one in enumerate(drawn)]
    rng = draw(st.randoms(use_true_random=False))
    headers = [frame for index, one in enumerate(drawn) for frame in slices_of(one, index, rng)]
    rng.shuffle(headers)
    return drawn, headers


def check(drawn: Sequence[Mixed], headers: Sequence[FrameHeader]) -> None:
    stacks = group_series(headers)
    for stack in stacks:
        assert len({frame.path.parent for frame in stack.frames}) == 1, [f.path for f in stack.frames]
    for index, one in enumerate(drawn):
        others = [other for k, other in enumerate(drawn) if k != index]
        alone = one.uid == "own" or all(one.told_from(other) or other.uid == "own" for other in others)
        if alone and one.uid != "slice":
            expected = {frame.path for frame in headers if frame.path.parent.name == f"volume{index}"}
            assert expected in [{frame.path for frame in stack.frames} for stack in stacks], (index, sizes(stacks))


def sizes(stacks: Sequence[Series]) -> list[tuple[str, int]]:
    return [(stack.first.path.parent.name, len(stack)) for stack in stacks]


QUICK = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(mixtures())
def test_no_mixture_is_one_stack(mixture: tuple[list[Mixed], list[FrameHeader]]) -> None:
    """Every stack is of one volume, and a volume that a fact tells from the others is found whole."""
    check(*mixture)


@pytest.mark.campaign
@settings(QUICK, max_examples=2000)
@given(mixtures())
def test_no_mixture_is_one_stack_in_2000(mixture: tuple[list[Mixed], list[FrameHeader]]) -> None:
    check(*mixture)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(device="cpu")


@pytest.mark.campaign
@settings(QUICK, max_examples=20)
@given(mixture=mixtures())
def test_the_detector_reads_no_mixture(detector: Detector, mixture: tuple[list[Mixed], list[FrameHeader]]) -> None:
    """The same on files: the volume that is analysed or refused has slices of one volume only, and its pictures."""
    drawn, headers = mixture
    with TemporaryDirectory() as name:
        files = [write_slice(Path(name), drawn, frame) for frame in headers]
        reading = detector.read_study(files)
        if reading.volume is not None:
            assert len({source.path.name.split("_")[0] for source in reading.volume.sources}) == 1
            assert set(reading.detection.series_uids) == {
                str(dcmread(s.path).SeriesInstanceUID) for s in reading.volume.sources
            }


def write_slice(folder: Path, drawn: Sequence[Mixed], frame: FrameHeader) -> Path:
    """A phantom's slice under the header of the mixture."""
    volume, number = int(frame.path.parent.name.removeprefix("volume")), int(frame.path.stem)
    image = dcmread(files_of(drawn[volume].seed)[number])
    rows, columns = image.pixel_array.shape
    pixels = np.zeros((frame.rows, frame.columns), "<u2")
    height, width = min(rows, frame.rows), min(columns, frame.columns)
    pixels[:height, :width] = image.pixel_array[:height, :width]
    image.PixelData, image.Rows, image.Columns = pixels.tobytes(), frame.rows, frame.columns
    image.StudyInstanceUID, image.SeriesInstanceUID = frame.study_uid, frame.series_uid
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = frame.sop_instance_uid
    image.FrameOfReferenceUID, image.SeriesDescription = frame.frame_of_reference_uid, frame.series_description
    image.ImageType, image.EchoTime, image.EchoNumbers = list(frame.image_type), frame.echo_time, frame.echo_number
    image.PixelSpacing = list(frame.pixel_spacing or ())
    image.ImageOrientationPatient = [f"{v:.12f}" for v in frame.orientation or ()]
    image.ImagePositionPatient = [f"{v:.6f}" for v in frame.position or ()]
    image.SliceThickness, image.SpacingBetweenSlices = frame.slice_thickness, frame.spacing_between_slices
    image.TemporalPositionIdentifier, image.AcquisitionNumber = frame.temporal_position, frame.acquisition_number
    image.AcquisitionTime, image.InstanceNumber = frame.acquired_at, frame.instance_number
    image.AcquisitionDate = ""
    path = folder / f"volume{volume}_{number}.dcm"
    image.save_as(path)
    return path
