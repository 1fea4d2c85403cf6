"""Procedural phantoms as exams with known keypoints and classes; each seed is one."""

from __future__ import annotations

from collections.abc import Iterator

from spineone_core.anatomy import Grade
from spineone_core.phantom.config import DEFAULT_CONFIG, PhantomConfig
from spineone_core.phantom.exam import PhantomExam, make_phantom
from trainer.datasets.exam import Exam


def read(seeds: range, slices: int | None = None, config: PhantomConfig = DEFAULT_CONFIG) -> Iterator[Exam]:
    """One exam for each seed, always the same, voxel for voxel. ``slices`` renders only so many slices around the middle."""
    for seed in seeds:
        yield exam_of(make_phantom(seed, config=config, slices=slices))


def exam_of(phantom: PhantomExam) -> Exam:
    """A phantom with its truth."""
    grades: dict[str, Grade | None] = dict(phantom.grades)
    return Exam(
        exam_id=f"phantom/{phantom.seed}",
        patient=f"phantom-{phantom.seed}",
        subset="phantom",
        volume=phantom.volume,
        slice_index=phantom.volume.middle_index,
        points=dict(phantom.points),
        grades=grades,
    )
