"""What the grading networks say of the keypoints found: the class, for discs the Pfirrmann grade, and signs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch

from spineone_core.anatomy import Structure
from spineone_core.arrays import FloatArray
from spineone_core.detection.calibration import Calibration, calibrate
from spineone_core.detection.crops import crops_of, rows_of
from spineone_core.findings import NotAnalysable, PfirrmannGrade, Reason
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.grading import (
    PFIRRMANN_GRADES,
    GradingConfig,
    GradingEnsemble,
    GradingLogits,
    class_logits,
)

Grading = Mapping[Structure, GradingEnsemble]
PFIRRMANN = "pfirrmann"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What is said of one structure.

    ``probability`` of degeneration is not calibrated yet. ``pfirrmann`` is None for vertebrae, and where the package has no
    calibration for the grade. ``signs`` are calibrated probabilities of those signs that the package has a calibration for.
    """

    probability: float
    pfirrmann: PfirrmannGrade | None
    signs: tuple[tuple[str, float], ...]


def calibration_key(structure: Structure, output: str) -> str:
    """The key in a manifest's calibration of an output beside the class, e.g. ``disc.narrowing``.

    ``disc.pfirrmann.1`` is that of a grade over 1.
    """
    return f"{structure.value}.{output}"


def grade_keypoints(
    volume: SagittalVolume,
    middle: int,
    points: FloatArray,
    grading: Grading,
    calibration: Mapping[str, Calibration],
    device: torch.device,
) -> dict[int, Graded]:
    """Place in the reading order -> what the grading networks say there, for the structures that have a network.

    Parameters
    ----------
    middle
        Index of the slice that the points (10, 2) lie on, column and row in source pixels.
    grading
        In evaluation mode, on ``device``.

    Raises
    ------
    NotAnalysable
        ``invalid_output`` if an output is not finite.
    """
    found: dict[int, Graded] = {}
    said = {s: _logits(ensemble, volume, middle, points, device) for s, ensemble in grading.items()}
    for structure, logits in said.items():
        config = grading[structure].config
        classes = torch.sigmoid(class_logits(logits, config, said.get(Structure.DISC))).tolist()
        for place, row in enumerate(rows_of(structure)):
            one = GradingLogits(*(part[place] for part in logits))
            found[row] = _graded(one, classes[place], config, calibration)
    return found


@torch.inference_mode()
def _logits(
    ensemble: GradingEnsemble, volume: SagittalVolume, middle: int, points: FloatArray, device: torch.device
) -> GradingLogits:
    """The logits of the five levels on the CPU, averaged over slices."""
    crops = crops_of(volume, middle, points, ensemble.config)
    with _one_thread():
        logits = GradingLogits(*(part.float().mean(dim=0).cpu() for part in ensemble(crops.to(device))))
    if not all(bool(torch.isfinite(part).all()) for part in logits):
        raise NotAnalysable(Reason.INVALID_OUTPUT, "the grading network's output is not finite")
    return logits


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread of the CPU: on crops so small, several wait for each other longer than they work, most of all on a busy CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _graded(
    logits: GradingLogits, probability: float, config: GradingConfig, calibration: Mapping[str, Calibration]
) -> Graded:
    """``logits`` are of one structure: (), (4,) or (0,), and (n,)."""
    signs = []
    for name, sign in zip(config.signs, torch.sigmoid(logits.signs).tolist(), strict=True):
        scaling = calibration.get(calibration_key(config.structure, name))
        if scaling is not None:
            signs.append((name, calibrate(sign, scaling)))
    above = torch.sigmoid(logits.above).tolist()
    keys = [calibration_key(config.structure, f"{PFIRRMANN}.{k + 1}") for k in range(len(above))]
    scaled = [calibrate(p, calibration[key]) for p, key in zip(above, keys, strict=True) if key in calibration]
    return Graded(
        probability=probability,
        pfirrmann=_pfirrmann(scaled) if len(scaled) == PFIRRMANN_GRADES - 1 else None,
        signs=tuple(signs),
    )


def _pfirrmann(above: list[float]) -> PfirrmannGrade:
    """From the probabilities that the grade is over 1, 2, 3, 4; the grade is the median of the five.

    Each threshold is calibrated for itself, so none may be likelier than the one before.
    """
    above = list(accumulate(above, min))
    edges = [1.0, *above, 0.0]
    return PfirrmannGrade(
        grade=1 + sum(p > 0.5 for p in above),
        probabilities=tuple(edges[k] - edges[k + 1] for k in range(PFIRRMANN_GRADES)),
    )
