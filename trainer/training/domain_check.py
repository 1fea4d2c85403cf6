"""Training of the domain check, which tells sagittal T2 lumbar MRI from T1, spoiled exams and other pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from spineone_core.anatomy import READING_ORDER
from spineone_core.arrays import FloatArray
from spineone_core.detection.domain_check import domain_score
from spineone_core.detection.keypoints import Refusal, find_keypoints
from spineone_core.detection.model_package import ModelPackage
from spineone_core.detection.preprocessing import PreprocessingConfig, normalise, prepare
from spineone_core.findings import NotAnalysable
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.domain import DomainConfig, DomainNetwork
from spineone_core.phantom.config import PhantomConfig
from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.datasets.negatives import IMAGE_SPOILERS, Negative, drawn_objects, spoiled
from trainer.samples.augmentation import STRONG, AugmentationConfig, Picture, augment
from trainer.samples.pictures import pictures_of

# Good pictures keep their levels in view. All crops have one size, so that the size says nothing.
GOOD = replace(STRONG, size=(416, 288), tall=0.0, partial=0.0)
CUT = replace(GOOD, partial=1.0)
SMALL = replace(GOOD, zoom=(0.42, 0.58))
BATCH = 16
LEARNING_RATE = 2e-3
# The limit is set between the scores at which this share of good exams is refused and of foreign pictures let through.
WRONG_SHARE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class DomainData:
    """Pictures of good exams (``real``, ``phantoms``) and of what must be refused (``series``, ``t1_phantoms``, ``objects``)."""

    real: Sequence[Picture]
    phantoms: Sequence[Picture]
    series: Sequence[Picture]
    t1_phantoms: Sequence[Picture]
    objects: Sequence[Picture]


def domain_data(
    package: ModelPackage, exams: Sequence[Exam], negatives: Sequence[Negative], phantom_count: int
) -> DomainData:
    """Pictures of exams, of phantoms in both contrasts, of the given series and of test objects."""
    preprocessing = one_slice(package.manifest.preprocessing)
    seeds = range(phantom_count)
    bright, dark = (phantoms.read(seeds, slices=1, config=PhantomConfig(contrast=c)) for c in ("t2", "t1"))
    return DomainData(
        real=[picture for exam in exams for picture in pictures_of(exam, preprocessing, 6.0)],
        phantoms=[pictures_of(exam, preprocessing, 0.0)[0] for exam in bright],
        t1_phantoms=[pictures_of(exam, preprocessing, 0.0)[0] for exam in dark],
        series=[picture_of(n.volume, preprocessing, found_points(n.volume, package)) for n in negatives],
        objects=[picture_of(n.volume, preprocessing, None) for seed in seeds for n in drawn_objects(seed)],
    )


def found_points(volume: SagittalVolume, package: ModelPackage) -> FloatArray | None:
    """(10, 2) column and row if the detector finds ten levels without its domain check; crops are placed by them."""
    (found,) = find_keypoints([volume], package.network, package.manifest, torch.device("cpu"))
    if isinstance(found, Refusal):
        return None
    return np.array([(keypoint.x, keypoint.y) for keypoint in found.keypoints])


def picture_of(volume: SagittalVolume, preprocessing: PreprocessingConfig, points: FloatArray | None) -> Picture:
    """A series without annotation as a training picture; without points, the crops are placed around its middle."""
    rows, columns = volume.voxels.shape[1:]
    if points is None:
        points = np.column_stack([np.full(10, columns / 2), rows * np.linspace(0.2, 0.8, 10)])
    places = np.clip(points, 0, [columns - 1, rows - 1])
    exam = Exam(
        exam_id="negative",
        patient="",
        subset="",
        volume=volume,
        slice_index=volume.middle_index,
        points={landmark.level: (float(x), float(y)) for landmark, (x, y) in zip(READING_ORDER, places, strict=True)},
        grades={},
    )
    return pictures_of(exam, preprocessing, 0.0)[0]


def one_slice(preprocessing: PreprocessingConfig) -> PreprocessingConfig:
    """The same with one slice, as the check looks at the middle slice only."""
    return replace(preprocessing, slices=1)


def sample(data: DomainData, index: int, seed: int, spacing_mm: float) -> tuple[NDArray[np.float32], float]:
    """Training picture (1, H, W) number ``index``, and 1 if it must be refused, else 0."""
    rng = np.random.default_rng([seed, index])
    good = data.phantoms if data.phantoms and (not data.real or rng.random() < 0.35) else data.real
    if rng.random() < 0.5:
        return _crop(good, GOOD, rng, spacing_mm), 0.0
    kind = rng.random()
    if kind < 0.3 and data.series:
        return _crop(data.series, GOOD, rng, spacing_mm), 1.0
    if kind < 0.45:
        return _crop(data.t1_phantoms, GOOD, rng, spacing_mm), 1.0
    if kind < 0.55:
        return _crop(data.objects, GOOD, rng, spacing_mm), 1.0
    if kind < 0.75:
        return _crop(good, CUT, rng, spacing_mm), 1.0
    if kind < 0.8:
        return _crop(good, SMALL, rng, spacing_mm), 1.0
    spoiler = IMAGE_SPOILERS[str(rng.choice([*IMAGE_SPOILERS]))]
    images = _crop(good, GOOD, rng, spacing_mm)
    changed = spoiler(images - images.min(), spacing_mm, rng)
    return normalise(_fitted(np.ascontiguousarray(changed, dtype=np.float32), GOOD.size)), 1.0


def _crop(
    pictures: Sequence[Picture], config: AugmentationConfig, rng: np.random.Generator, spacing_mm: float
) -> NDArray[np.float32]:
    return augment(pictures[int(rng.integers(len(pictures)))], spacing_mm, config, rng).images


def _fitted(images: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The pictures cut or padded around their middle to ``size``."""
    short = [max(0, n - m) for n, m in zip(size, images.shape[1:], strict=True)]
    padded = np.pad(images, [(0, 0), *((n // 2, n - n // 2) for n in short)], constant_values=float(images.min()))
    top, left = ((m - n) // 2 for n, m in zip(size, padded.shape[1:], strict=True))
    return padded[:, top : top + size[0], left : left + size[1]]


def fit_domain(
    data: DomainData,
    spacing_mm: float,
    *,
    steps: int,
    batch: int = BATCH,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> DomainNetwork:
    """Train the check on the CPU; its limit stays at one half."""
    torch.manual_seed(seed)
    network = DomainNetwork(DomainConfig()).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    losses, started = [], time.monotonic()
    for step in range(steps):
        pairs = [sample(data, step * batch + i, seed, spacing_mm) for i in range(batch)]
        images = torch.from_numpy(np.stack([images for images, _ in pairs]))
        loss = F.binary_cross_entropy_with_logits(network(images), torch.tensor([label for _, label in pairs]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0:
            log(f"step {step + 1} of {steps}, loss {np.mean(losses[-100:]):.4f}, {time.monotonic() - started:.0f} s")
    return network.eval()


def choose_limit(good: FloatArray, foreign: FloatArray, share: float = WRONG_SHARE) -> float:
    """The limit, midway on the logit scale between what a ``share`` of good exams exceeds and of foreign ones stays under.

    Where the two overlap, the good exams decide.
    """
    low = float(np.quantile(good, 1 - share, method="higher"))
    high = max(low, float(np.quantile(foreign, share, method="lower")))
    odds = [np.log(p / (1 - p)) for p in np.clip([low, high], 1e-4, 1 - 1e-4)]
    return round(float(1 / (1 + np.exp(-np.mean(odds)))), 3)


def with_limit(
    network: DomainNetwork, exams: Iterable[Exam], negatives: Iterable[Negative], preprocessing: PreprocessingConfig
) -> DomainNetwork:
    """The same network with a new limit, from validation exams as they are and spoiled, and from the given series."""
    good, foreign = [], [_score(network, item.volume, preprocessing) for item in negatives]
    for number, exam in enumerate(exams):
        good.append(_score(network, exam.volume, preprocessing))
        foreign += [_score(network, item.volume, preprocessing) for item in spoiled(exam, number)]
    limited = DomainNetwork(replace(network.config, limit=choose_limit(np.array(good), np.array(foreign))))
    limited.load_state_dict(network.state_dict())
    return limited.eval()


def _score(network: DomainNetwork, volume: SagittalVolume, preprocessing: PreprocessingConfig) -> float:
    """The score of a volume; 1 where preprocessing already refuses it."""
    try:
        return domain_score(network, prepare(volume, preprocessing).images, torch.device("cpu"))
    except NotAnalysable:
        return 1.0
