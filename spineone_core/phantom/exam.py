"""Procedural lumbar MRI with known truth: the demo's exam, the tests' exam and training material without limit.

An exam is a patient (`phantom_anatomy`), painted (`phantom_drawing`) on the slices of a scanner whose matrix, field of
view, coil, noise and slice plan are drawn at random here, each from the seed alone. No image of a person is involved.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spineone_core.anatomy import DISCS, UPPER_DISC, VERTEBRAE, Grade
from spineone_core.imaging.series import SagittalVolume, SliceSource, middle_of
from spineone_core.phantom.anatomy import DISC_RATES, VERTEBRA_RATES, Patient, make_patient
from spineone_core.phantom.painting import T1, T2, Floats, Painter, Plane, Textures, enlarge, vary

Contrast = Literal["t1", "t2"]
FloatArray = NDArray[np.float64]

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
# Names of the random streams of a seed; T1 and T2 of one seed share patient, looks and scanner plan.
_PATIENT, _PLAN, _LOOKS, _TEXTURE, _SIGNAL, _NOISE, _SACRUM = range(7)
# How lumbar a lumbarised S1 looks.
_LUMBARISATION = (0.2, 0.8)
# Kept between the outermost centres and the border of the picture, across and down (mm): no level may be cut.
_MARGIN_MM = (27.0, 17.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomConfig:
    """What a phantom exam is drawn from. Lengths in mm, angles in degrees; pairs are ranges.

    Parameters
    ----------
    contrast
        ``"t2"`` (bright fluid) or ``"t1"`` (dark fluid, bright fat); patient and geometry are the same.
    matrix
        Rows of the square matrix are drawn from these.
    field_of_view
        Range of the height of the picture.
    spacing
        Pixel spacing is held within this range.
    slices, step
        Choices for the number of slices and for the distance of their centres.
    tilt, obliquity
        Largest turn of the patient in the picture, and of the slice plane out of the sagittal plane.
    artefacts
        Strength of coil fall-off, noise, blur, ghosts and dark borders: 0 none, 1 usual.
    disc_rates, vertebra_rates
        Chance of each level to be degenerative.
    lumbarised
        Share of patients whose S1 looks more or less lumbar above a well-formed S1-S2 disc.
    """

    contrast: Contrast = "t2"
    matrix: tuple[int, ...] = (256, 288, 320, 320, 384, 384, 384, 448, 448, 512, 512, 576, 640)
    field_of_view: tuple[float, float] = (240.0, 400.0)
    spacing: tuple[float, float] = (0.3, 1.2)
    slices: tuple[int, ...] = (11, 12, 13, 13, 14, 15, 15, 15, 16, 17)
    step: tuple[float, ...] = (3.0, 4.0, 4.4, 4.4, 4.8, 5.0)
    tilt: float = 12.0
    obliquity: float = 5.0
    artefacts: float = 1.0
    disc_rates: dict[str, float] = field(default_factory=lambda: dict(DISC_RATES))
    vertebra_rates: dict[str, float] = field(default_factory=lambda: dict(VERTEBRA_RATES))
    lumbarised: float = 0.0


DEFAULT_CONFIG = PhantomConfig()
# A tidy exam for demo and documentation: usual field of view, mild artefacts.
DEMO_CONFIG = PhantomConfig(
    matrix=(448,), field_of_view=(300.0, 300.0), slices=(15,), step=(4.4,), tilt=3.0, obliquity=3.0, artefacts=0.5
)


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
        Normal or degenerative for the ten levels (not T12-L1).
    slice_thickness
        mm.
    patient, plan
        What was painted, and the whole slice plan it was painted on.
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
        Render only this many slices, around the middle one (cost is proportional); None renders all.

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
    # A rare patient leans so far out of the plane that a level leaves the middle slice: take the next plan.
    for attempt in range(20):
        exam = _try_exam(seed, attempt, patient, config, slices)
        if exam is not None:
            return exam
    raise RuntimeError(f"seed {seed}: no plan shows all ten levels")


def _stream(seed: int, *names: int) -> np.random.Generator:
    return np.random.default_rng([seed, *names])


def _lumbarisation(seed: int, rate: float) -> float:
    """Of a stream of its own, so that a rate changes the sacrum and nothing else. A full one would be an L6: left out."""
    rng = _stream(seed, _SACRUM)
    return float(rng.uniform(*_LUMBARISATION)) if rng.random() < rate else 0.0


def _try_exam(
    seed: int, attempt: int, patient: Patient, config: PhantomConfig, slices: int | None
) -> PhantomExam | None:
    plan = make_plan(_stream(seed, _PLAN, attempt), patient, config)
    first, count = _window(plan, slices)
    painter = make_painter(seed, patient, plan, config)
    scanner = _Scanner(_stream(seed, _SIGNAL), plan, config)
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
    """The painter of a seed for planes of the plan's size."""
    tissues = vary(T2 if config.contrast == "t2" else T1, _stream(seed, _LOOKS), 0.14)
    textures = Textures(_stream(seed, _TEXTURE), plan.rows, plan.columns, plan.spacing)
    return Painter(patient, tissues, textures, _stream(seed, _LOOKS, 1))


def _window(plan: Plan, wanted: int | None) -> tuple[int, int]:
    """First index and number of the slices to render, around the middle one of the whole stack."""
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
    """A name-based UID under 2.25, the same for the same seed, config and names; T1 and T2 share a study."""
    text = ":".join(["spineone-phantom", str(seed), repr(replace(config, contrast="t2")), *map(str, names)])
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, text).int}"


def _volume(
    seed: int, plan: Plan, voxels: Floats, origins: FloatArray, chosen: range, config: PhantomConfig
) -> SagittalVolume:
    contrast = config.contrast
    sources = tuple(
        SliceSource(Path(f"phantom-{seed}-{k}.dcm"), phantom_uid(seed, config, contrast, k), MR_IMAGE_STORAGE, None)
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


# ---------------------------------------------------------------- the slice plan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Where the slices lie: patient directions and the pose of the anatomy in patient space. Lengths in mm."""

    rows: int
    columns: int
    spacing: float
    slices: int
    step: float
    thickness: float
    row_direction: FloatArray
    column_direction: FloatArray
    corner: FloatArray
    pose: FloatArray
    shift: FloatArray

    @property
    def normal(self) -> FloatArray:
        return np.cross(self.row_direction, self.column_direction)

    def origin(self, index: int) -> FloatArray:
        """Patient coordinates of the first pixel's centre of a slice."""
        return self.corner + self.normal * self.step * (index - (self.slices - 1) / 2)

    def plane(self, index: int) -> Plane:
        """The slice in anatomical coordinates."""
        return self.to_anatomy(
            self.origin(index), self.row_direction * self.spacing, self.column_direction * self.spacing
        )

    def to_anatomy(self, origin: FloatArray, along_row: FloatArray, along_column: FloatArray) -> Plane:
        start, row, column = self.pose.T @ (origin - self.shift), self.pose.T @ along_row, self.pose.T @ along_column
        return Plane(_triple(start), _triple(row), _triple(column), self.rows, self.columns)


def _triple(values: FloatArray) -> tuple[float, float, float]:
    x, y, z = map(float, values)
    return x, y, z


def make_plan(rng: np.random.Generator, patient: Patient, config: PhantomConfig) -> Plan:
    """Draw matrix, field of view, slice stack and pose so that all points lie inside the picture."""
    rows = int(rng.choice(config.matrix))
    pose = _turn(rng, config.tilt / 2 if rng.random() < 0.7 else config.tilt, config.obliquity / 2)
    plane_turn = _turn(rng, config.tilt / 4, config.obliquity / 2)
    row, column = plane_turn @ np.array([0.0, 1.0, 0.0]), plane_turn @ np.array([0.0, 0.0, -1.0])
    across, down = _extent(patient, pose.T @ row, pose.T @ column)
    across, down = _widened(across, _MARGIN_MM[0]), _widened(down, _MARGIN_MM[1])
    needed = max(across[1] - across[0], down[1] - down[0])
    view = max(float(rng.uniform(*config.field_of_view)), needed)
    spacing = round(float(np.clip(view / rows, *config.spacing)), 4)
    while rows * spacing < needed:
        rows += 32
    columns = rows
    if rng.random() < 0.3:
        share = max(float(rng.uniform(0.6, 1.0)), (across[1] - across[0]) / (rows * spacing))
        columns = min(rows, math.ceil(rows * share / 8) * 8)
    left = _place(rng, across, columns * spacing, 0.18)
    top = _place(rng, down, rows * spacing, 0.10)
    shift = rng.normal(0, (8, 20, 25))
    beside = float(rng.normal(0, 2.0))
    normal = np.cross(row, column)
    step = float(rng.choice(config.step))
    return Plan(
        rows=rows,
        columns=columns,
        spacing=spacing,
        slices=int(rng.choice(config.slices)),
        step=step,
        thickness=round(step * float(rng.choice([0.8, 0.9, 0.9, 1.0])), 2),
        row_direction=row,
        column_direction=column,
        corner=shift + row * left + column * top + normal * beside,
        pose=pose,
        shift=shift,
    )


def _turn(rng: np.random.Generator, in_plane: float, out_of_plane: float) -> FloatArray:
    """A rotation: up to ``in_plane`` degrees about x, up to ``out_of_plane`` about y and z."""
    angles = np.radians(rng.uniform(-1, 1, 3) * np.array([in_plane, out_of_plane, out_of_plane]))
    (sx, sy, sz), (cx, cy, cz) = np.sin(angles), np.cos(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def _extent(patient: Patient, row: FloatArray, column: FloatArray) -> tuple[tuple[float, float], tuple[float, float]]:
    """Smallest and largest place of the landmarks along the picture's rows and columns, mm from the anatomy's origin."""
    parts = [patient.disc(n).part for n in (UPPER_DISC, *DISCS)] + [patient.body(n).part for n in VERTEBRAE]
    places = np.array([(part.lateral, part.y, part.z) for part in parts])
    across, down = places @ row, places @ column
    return (float(across.min()), float(across.max())), (float(down.min()), float(down.max()))


def _widened(extent: tuple[float, float], margin: float) -> tuple[float, float]:
    return extent[0] - margin, extent[1] + margin


def _place(rng: np.random.Generator, extent: tuple[float, float], length: float, spread: float) -> float:
    """Where the picture begins, so that ``extent`` lies inside; usually near its middle."""
    earliest, latest = extent[1] - length, extent[0]
    usual = (extent[0] + extent[1]) / 2 - length * float(rng.normal(0.5, spread))
    return float(np.clip(usual, earliest, max(earliest, latest)))


# ---------------------------------------------------------------- the scanner


class _Scanner:
    """Coil, blur, ghosts, noise and intensity scale of one exam."""

    def __init__(self, rng: np.random.Generator, plan: Plan, config: PhantomConfig) -> None:
        strength = config.artefacts
        self._plan = plan
        self._blur = float(rng.uniform(0.15, 0.15 + 0.5 * strength)) * min(1.0, 0.8 / plan.spacing)
        self._noise = float(np.exp(rng.uniform(math.log(0.004), math.log(0.004 + 0.035 * strength))))
        self._gamma = float(np.exp(rng.normal(0, 0.18 * min(strength, 1.0))))
        self._scale = float(rng.uniform(700, 1500))
        self._clip = float(rng.uniform(1.0, 1.8))
        self._ghost = float(rng.uniform(0, 0.025)) * strength if rng.random() < 0.4 else 0.0
        self._ghost_shift = int(rng.integers(plan.rows // 8, plan.rows // 2))
        self._wrap = float(rng.uniform(0.1, 0.5)) * strength if rng.random() < 0.1 else 0.0
        self._border = float(rng.uniform(0.01, 0.05)) * strength if rng.random() < 0.25 else 0.0
        self._sensitivity = _coil(rng, plan, strength)

    def image(self, signal: Floats, plane: Plane, noise: np.random.Generator) -> Floats:
        """What the scanner stores of a noise-free slice: (rows, columns), whole numbers >= 0."""
        picture = ndimage.gaussian_filter(signal, self._blur, truncate=2.5) if self._blur > 0.2 else signal
        picture = picture * self._sensitivity
        if self._ghost:
            picture = picture + self._ghost * np.roll(picture, self._ghost_shift, axis=0)
        if self._wrap:
            picture = _wrapped(picture, self._wrap)
        picture = rician(picture, self._noise, noise)
        if self._border:
            picture = picture * _inside(picture.shape, self._border)
        picture = np.minimum(picture, self._clip)
        if abs(self._gamma - 1) > 0.02:
            picture = picture**self._gamma
        return np.round(picture * np.float32(self._scale)).astype(np.float32)


def _coil(rng: np.random.Generator, plan: Plan, strength: float) -> Floats:
    """Sensitivity (rows, columns), 1 where it is best: a coil behind the back, weak at its ends, often a dark front."""
    plane = plan.plane(plan.slices // 2)
    small = (max(8, plan.rows // 8), max(8, plan.columns // 8))
    rows = np.linspace(0, plan.rows - 1, small[0])[:, None]
    columns = np.linspace(0, plan.columns - 1, small[1])[None, :]
    y = plane.origin[1] + columns * plane.along_row[1] + rows * plane.along_column[1]
    z = plane.origin[2] + columns * plane.along_row[2] + rows * plane.along_column[2]
    reach = float(np.exp(rng.uniform(math.log(55), math.log(400))))
    fall = np.exp(-np.maximum(70 - y, 0) / reach)
    centre, half = float(rng.normal(-45, 25)), float(rng.uniform(110, 330))
    ends = np.exp(-(np.maximum(np.abs(z - centre) / half - 0.35, 0) ** 2) * 1.5)
    waves = 1 + 0.15 * np.sin(
        y / float(rng.uniform(25, 80)) + z / float(rng.uniform(25, 80)) + float(rng.uniform(0, 6))
    )
    field_ = fall * ends * (1 + (waves - 1) * float(rng.random()))
    if rng.random() < 0.45:
        edge = -float(rng.uniform(26, 55)) + float(rng.normal(0, 0.15)) * z
        field_ = field_ * (1 - float(rng.uniform(0.4, 0.95)) * np.clip((edge - y) / float(rng.uniform(6, 25)), 0, 1))
    near = field_[(np.abs(y) < 30) & (np.abs(z) < 90)]
    field_ = np.clip(field_ / np.median(near), 0.005, 3.5) if near.size else field_ / field_.max()
    return np.maximum(enlarge((field_ ** min(strength, 1.0)).astype(np.float32), plan.rows, plan.columns), 0)


def rician(picture: Floats, sigma: float, rng: np.random.Generator) -> Floats:
    """Magnitude of the picture with Gaussian noise in both channels."""
    real = picture + np.float32(sigma) * rng.standard_normal(picture.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(picture.shape, dtype=np.float32)
    return np.sqrt(real * real + imaginary * imaginary)


def _wrapped(picture: Floats, share: float) -> Floats:
    """Fold-over from beyond the lower border onto the upper rows."""
    depth = len(picture) // 10
    weight = np.linspace(share, 0, depth, dtype=np.float32)[:, None]
    folded = picture.copy()
    folded[:depth] += picture[-depth:] * weight
    return folded


def _inside(shape: tuple[int, ...], depth: float) -> Floats:
    """0 beyond the curved border that correction of gradient distortion leaves at top and bottom, else 1."""
    rows, columns = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None, :]
    return (np.abs(rows) < 1 - depth * (0.3 + columns**2)).astype(np.float32)
