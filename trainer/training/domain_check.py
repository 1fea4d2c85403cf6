"""Training of the domain check, which tells sagittal T2 lumbar MRI from T1, spoiled exams and other pictures."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace

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
from spineone_core.network.domain import SHRINK, DomainConfig, DomainNetwork
from spineone_core.phantom.config import Contrast, PhantomConfig
from trainer.datasets import phantoms
from trainer.datasets.contrasts import Recoloured, recoloured
from trainer.datasets.exam import Exam
from trainer.datasets.negatives import FOREIGN_CONTRASTS, IMAGE_SPOILERS, Negative, drawn_objects, spoiled
from trainer.samples.augmentation import STRONG, AugmentationConfig, Picture, augment
from trainer.samples.pictures import pictures_of

# Pictures are drawn with the coarse pixels that the check looks at, so that its training takes a quarter of the time.
# Good pictures keep their levels in view. All crops have one size, so that the size says nothing.
GOOD = replace(STRONG, size=(208, 144), tall=0.0, partial=0.0)
CUT = replace(GOOD, partial=1.0)
SMALL = replace(GOOD, zoom=(0.42, 0.58))
BATCH = 16
LEARNING_RATE = 2e-3
# Of a check that was trained before.
FURTHER_LEARNING_RATE = 1e-3
# Recoloured copies of each real picture: foreign contrasts, and T2 with the same masks, so that these say nothing.
COPIES: dict[Recoloured, int] = {"water": 3, "fat": 2, "t2": 1}
RIGHTWARDS = np.array([1.0, 0.0])
# The limit is set between the scores at which this share of good exams is refused and of foreign pictures let through.
WRONG_SHARE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class DomainData:
    """Pictures of good exams and of what must be refused.

    Good are ``real``, ``repainted`` (the same as T2 by masks) and ``phantoms``. Foreign are ``series``, ``recoloured`` (good
    exams in a foreign contrast), ``foreign_phantoms`` and ``objects``.
    """

    real: Sequence[Picture]
    repainted: Sequence[Picture]
    phantoms: Sequence[Picture]
    series: Sequence[Picture]
    recoloured: Sequence[Picture]
    foreign_phantoms: Sequence[Picture]
    objects: Sequence[Picture]

    def fingerprint(self) -> str:
        """SHA-256 of all pictures and points, in hex."""
        digest = hashlib.sha256()
        for field in fields(self):
            for picture in getattr(self, field.name):
                digest.update(picture.images.tobytes())
                digest.update(np.ascontiguousarray(picture.points).tobytes())
        return digest.hexdigest()


def domain_data(
    package: ModelPackage, exams: Sequence[Exam], negatives: Sequence[Negative], phantom_count: int
) -> DomainData:
    """Pictures of exams, as they are and recoloured, of phantoms in all contrasts, of the given series and of test objects."""
    preprocessing = coarse(package.manifest.preprocessing)
    seeds = range(phantom_count)
    real = [picture for exam in exams for picture in pictures_of(exam, preprocessing, 6.0)]
    copies = {contrast: recoloured_copies(real, contrast, count) for contrast, count in COPIES.items()}
    return DomainData(
        real=real,
        repainted=copies.pop("t2"),
        recoloured=[picture for pictures in copies.values() for picture in pictures],
        phantoms=_phantoms(seeds, "t2", preprocessing),
        foreign_phantoms=[p for contrast in FOREIGN_CONTRASTS for p in _phantoms(seeds, contrast, preprocessing)],
        series=[picture_of(n.volume, preprocessing, found_points(n.volume, package)) for n in negatives],
        objects=[picture_of(n.volume, preprocessing, None) for seed in seeds for n in drawn_objects(seed)],
    )


def recoloured_copies(pictures: Sequence[Picture], contrast: Recoloured, count: int) -> list[Picture]:
    """``count`` copies of each picture in another contrast; those with an unknown level have none."""
    copies = []
    for number, picture in enumerate(pictures):
        for copy in range(count):
            rng = np.random.default_rng([number, copy, *contrast.encode()])
            image, spacing = picture.images[0].astype(np.float32), picture.spacing_mm
            made = recoloured(image, picture.points, spacing, contrast, rng, posterior=RIGHTWARDS)
            if made is not None:
                copies.append(replace(picture, images=normalise(np.clip(made, 0, 1)[None]).astype(np.float16)))
    return copies


def _phantoms(seeds: range, contrast: Contrast, preprocessing: PreprocessingConfig) -> list[Picture]:
    exams = phantoms.read(seeds, slices=1, config=PhantomConfig(contrast=contrast))
    return [pictures_of(exam, preprocessing, 0.0)[0] for exam in exams]


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


def coarse(preprocessing: PreprocessingConfig) -> PreprocessingConfig:
    """The same as the check sees it: the middle slice only, with larger pixels."""
    return replace(preprocessing, slices=1, spacing_mm=SHRINK * preprocessing.spacing_mm)


def sample(data: DomainData, index: int, seed: int, spacing_mm: float) -> tuple[NDArray[np.float32], float]:
    """Training picture (1, H, W) number ``index``, with pixels of ``spacing_mm``, and 1 if it must be refused, else 0."""
    rng = np.random.default_rng([seed, index])
    good = data.phantoms if data.phantoms and (not data.real or rng.random() < 0.35) else data.real
    if rng.random() < 0.5:
        masked = good is data.real and data.repainted and rng.random() < 0.2
        return _crop(data.repainted if masked else good, GOOD, rng, spacing_mm), 0.0
    foreign = {0.18: data.series, 0.4: data.recoloured, 0.58: data.foreign_phantoms, 0.66: data.objects}
    kind = rng.random()
    for upto, pictures in foreign.items():
        if kind < upto and pictures:
            return _crop(pictures, GOOD, rng, spacing_mm), 1.0
    if kind < 0.83:
        return _crop(good, CUT, rng, spacing_mm), 1.0
    if kind < 0.88:
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
    begin: DomainNetwork | None = None,
    steps: int,
    batch: int = BATCH,
    seed: int = 0,
    log: Callable[[str], None] = print,
) -> DomainNetwork:
    """Train the check of a detector with pixels of ``spacing_mm`` on the CPU; its limit is one half.

    With ``begin``, training goes on from there, and what it began with stays beside the new network.
    """
    torch.manual_seed(seed)
    network = (DomainNetwork(DomainConfig()) if begin is None else begin.alone()).train()
    rate = LEARNING_RATE if begin is None else FURTHER_LEARNING_RATE
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    losses, started = [], time.monotonic()
    for step in range(steps):
        pairs = [sample(data, step * batch + i, seed, SHRINK * spacing_mm) for i in range(batch)]
        images = torch.from_numpy(np.stack([images for images, _ in pairs]))
        loss = F.binary_cross_entropy_with_logits(network.judge(images), torch.tensor([label for _, label in pairs]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 50 == 0:
            log(f"step {step + 1} of {steps}, loss {np.mean(losses[-50:]):.4f}, {time.monotonic() - started:.0f} s")
    return network.eval() if begin is None else network.joined(begin)


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
