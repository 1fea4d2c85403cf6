"""How the series of a phantom study were acquired, and what an image of them is."""

from __future__ import annotations

from dataclasses import dataclass

from spineone_core.arrays import AnyFloats, FloatArray

# Directions of an axial, a sagittal and a coronal picture: along a row, down a column.
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))


@dataclass(frozen=True, slots=True)
class PulseSequence:
    """How a series was acquired, as its headers say. Times are in ms."""

    number: int
    description: str
    echo_time: float
    repetition_time: float
    train: int
    scanning: str = "SE"
    variant: str = "SK"
    flip: float = 150.0
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "ND")


SEQUENCES = {
    "localiser": PulseSequence(
        1, "LOCALIZER", 5.0, 20.0, 1, "GR", "SP", 40.0, ("ORIGINAL", "PRIMARY", "LOCALIZER", "M")
    ),
    "t2": PulseSequence(2, "T2 TSE SAG", 102.0, 3800.0, 17),
    "t1": PulseSequence(3, "T1 TSE SAG", 11.0, 620.0, 3),
    "axial": PulseSequence(4, "T2 TSE TRA", 98.0, 4200.0, 15),
}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image: its pixels (rows, columns) and where it lies in patient space (mm)."""

    uid: str
    pixels: AnyFloats
    origin: FloatArray
    row: FloatArray
    column: FloatArray
    spacing: float
    thickness: float
    step: float
