"""Procedural lumbar MRI with known truth: exams for the demo and the tests, and training material without limit.

An exam is a patient (`anatomy`), painted (`painting`) on the slices of a plan (`plan`), as a scanner would store them
(`scanner`). All of it is drawn at random from the seed alone. No image of a person is involved.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spineone_core.anatomy import DISCS, UPPER_DISC, VERTEBRAE, Grade
from spineone_core.arrays import AnyFloats, FloatArray
from spineone_core.imaging.volume import SagittalVolume, SliceSource, middle_of
from spineone_core.phantom.anatomy import Patient, make_patient
from spineone_core.phantom.config import DEFAULT_CONFIG, PhantomConfig
from spineone_core.phantom.painting import Painter
from spineone_core.phantom.plan import Plan, make_plan
from spineone_core.phantom.scanner import Scanner
from spineone_core.phantom.textures import Textures
from spineone_core.phantom.tissues import TISSUES, vary

# Names of the random streams of a seed. All contrasts of one seed share the patient, the looks and the slice plan.
_PATIENT, _PLAN, _LOOKS, _TEXTURE, _SIGNAL, _NOISE, _SACRUM = range(7)
# SOP class of an MR image (PS3.4 B.5): phantoms are rendered where there is no pydicom, too.
_MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
# How lumbar a lumbarised S1 looks.
_LUMBARISATION = (0.2, 0.8)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhantomExam:
    """A phantom volume and its truth.

    Parameters
    ----------
    volume
        Slices ordered by position; intensities are whole numbers from 0 to about 1500.
    points
        (column, row) in source pixels of slice ``volume.middle_index``, pixel centres at integers: the centroid of
        each shape on that slice. Keys L1 .. L5, L1-L2 .. L5-S1 and T12-L1.
    grades
        Normal or degenerative, for the ten levels (not for T12-L1).
    slice_thickness
        mm.
    patient, plan
        The patient who was painted, and the whole slice plan.
    """

    seed: int
    volume: SagittalVolume
    points: dict[str, tuple[float, float]]
    grades: dict[str, Grade]
    slice_thickness: float
    patient: Patient
    plan: Plan


def make_phantom(seed: int, *, config: PhantomConfig = DEFAULT_CONFIG, slices: int | None = None) -> PhantomExam:
    """The exam of a seed; the same seed, config and number of slices give the same voxels.

    Parameters
    ----------
    seed
        Any integer >= 0.
    slices
        Render only this many slices, around the middle one (the cost is proportional); None renders all.

    Raises
    ------
    ValueError
        If ``seed`` is negative or ``slices`` is less than 1.
    """
    if seed < 0 or (slices is not None and slices < 1):
        raise ValueError(f"seed {seed} must be >= 0 and slices {slices} >= 1")
    patient = make_patient(
        _stream(seed, _PATIENT), config.disc_rates, config.vertebra_rates, _lumbarisation(seed, config.lumbarised)
    )
    # Rarely, a patient leans so far out of the plane that a level leaves the middle slice: then the next plan is tried.
    for attempt in range(20):
        exam = _try_exam(seed, attempt, patient, config, slices)
        if exam is not None:
            return exam
    raise RuntimeError(f"seed {seed}: no plan shows all ten levels")


def _stream(seed: int, *names: int) -> np.random.Generator:
    return np.random.default_rng([seed, *names])


def _lumbarisation(seed: int, rate: float) -> float:
    """From a random stream of its own, so that a rate changes only the sacrum. Full lumbarisation, an L6, does not occur."""
    rng = _stream(seed, _SACRUM)
    return float(rng.uniform(*_LUMBARISATION)) if rng.random() < rate else 0.0


def _try_exam(
    seed: int, attempt: int, patient: Patient, config: PhantomConfig, slices: int | None
) -> PhantomExam | None:
    plan = make_plan(_stream(seed, _PLAN, attempt), patient, config)
    first, count = _window(plan, slices)
    painter = make_painter(seed, patient, plan, config)
    scanner = Scanner(_stream(seed, _SIGNAL), plan, config)
    chosen = range(first, first + count)
    origins = np.array([plan.origin(k) for k in chosen])
    middle = middle_of(origins @ plan.normal)
    signal, points = painter.paint(plan.plane(first + middle))
    if not _complete(points, plan):
        return None
    painted = [signal if k == first + middle else painter.paint(plan.plane(k))[0] for k in chosen]
    voxels = np.stack(
        [scanner.image(painted[i], plan.plane(k), _stream(seed, _NOISE, k)) for i, k in enumerate(chosen)]
    )
    return PhantomExam(
        seed=seed,
        volume=_volume(seed, plan, voxels, origins, chosen, config),
        points={name: points[name] for name in (UPPER_DISC, *VERTEBRAE, *DISCS)},
        grades={n: patient.body(n).grade for n in VERTEBRAE} | {n: patient.disc(n).grade for n in DISCS},
        slice_thickness=plan.thickness,
        patient=patient,
        plan=plan,
    )


def make_painter(seed: int, patient: Patient, plan: Plan, config: PhantomConfig) -> Painter:
    """The painter of a seed, for planes of the plan's size."""
    table, spread = TISSUES[config.contrast]
    tissues = vary(table, _stream(seed, _LOOKS), spread)
    textures = Textures(_stream(seed, _TEXTURE), plan.rows, plan.columns, plan.spacing)
    return Painter(patient, tissues, textures, _stream(seed, _LOOKS, 1))


def _window(plan: Plan, wanted: int | None) -> tuple[int, int]:
    """Index of the first slice to render and number of slices, around the middle of the whole stack."""
    count = plan.slices if wanted is None else min(wanted, plan.slices)
    middle = middle_of(np.array([plan.origin(k) for k in range(plan.slices)]) @ plan.normal)
    return min(max(0, middle - (count - 1) // 2), plan.slices - count), count


def _complete(points: dict[str, tuple[float, float]], plan: Plan) -> bool:
    names = (UPPER_DISC, *VERTEBRAE, *DISCS)
    if not all(name in points for name in names):
        return False
    margin = 3.0 / plan.spacing
    inside = [
        margin <= x <= plan.columns - 1 - margin and margin <= y <= plan.rows - 1 - margin
        for x, y in (points[name] for name in names)
    ]
    return all(inside)


def phantom_uid(seed: int, config: PhantomConfig, *names: object) -> str:
    """A name-based UID under 2.25: the same for the same seed, config and names. All contrasts share a study."""
    text = ":".join(["spineone-phantom", str(seed), repr(replace(config, contrast="t2")), *map(str, names)])
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, text).int}"


def _volume(
    seed: int, plan: Plan, voxels: AnyFloats, origins: FloatArray, chosen: range, config: PhantomConfig
) -> SagittalVolume:
    contrast = config.contrast
    sources = tuple(
        SliceSource(Path(f"phantom-{seed}-{k}.dcm"), phantom_uid(seed, config, contrast, k), _MR_IMAGE_STORAGE, None)
        for k in chosen
    )
    return SagittalVolume(
        voxels=voxels,
        origins=origins,
        row_direction=plan.row_direction,
        column_direction=plan.column_direction,
        pixel_spacing=(plan.spacing, plan.spacing),
        sources=sources,
        study_uid=phantom_uid(seed, config, "study"),
        series_uid=phantom_uid(seed, config, contrast, "series"),
    )
