"""What a phantom should be like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from spineone_core.phantom.anatomy import DISC_RATES, VERTEBRA_RATES

# Two spin echoes, fat-suppressed T2, a gradient echo that shows water, and a picture of fat alone.
Contrast = Literal["t1", "t2", "stir", "water", "fat"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomConfig:
    """Ranges that a phantom exam is drawn from at random. Lengths are in mm, angles in degrees; pairs are ranges.

    Parameters
    ----------
    contrast
        ``"t2"`` (bright fluid), ``"t1"`` (dark fluid, bright fat), ``"stir"`` (T2 with dark fat and marrow), ``"water"``
        (gradient echo with dark fat and marrow, all discs bright) or ``"fat"`` (fat and marrow alone); patient and geometry
        are the same.
    matrix
        Choices for the number of rows of the square matrix.
    field_of_view
        Range of the height of the picture.
    spacing
        The pixel spacing is kept within this range.
    slices, step
        Choices for the number of slices and for the distance between their centres.
    tilt, obliquity
        Largest turn of the patient within the picture, and of the slice plane out of the sagittal plane.
    artefacts
        Strength of coil fall-off, noise, blur, ghosts and dark borders: 0 is none, 1 is usual.
    disc_rates, vertebra_rates
        The chance of each level to be degenerative.
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
