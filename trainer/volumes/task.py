"""Training the 3-D variant on CT volumes (Table V)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from spineone_core.arrays import FloatArray
from trainer.training.ranks import Ranks
from trainer.training.task import Batch, Objective
from trainer.volumes.evaluation import evaluate_volumes, volume_figures
from trainer.volumes.exam import VolumeExam
from trainer.volumes.network import STRIDE, SpineOneVolume
from trainer.volumes.package import VolumeManifest, save_volume_package
from trainer.volumes.preprocessing import prepare_volume
from trainer.volumes.recipe import VolumeRecipe
from trainer.volumes.targets import draw_volume_targets, volume_loss


@dataclass(frozen=True, slots=True, eq=False)
class ReducedVolume:
    """A scan as training keeps it: ``voxels`` (Z, Y, X) uint8, at the reduced resolution, and ``points`` (K, 3) x, y, z."""

    voxels: NDArray[np.uint8]
    points: FloatArray


def reduce_exam(exam: VolumeExam, recipe: VolumeRecipe) -> ReducedVolume:
    """The scan prepared and averaged, as the first step of the network would do it."""
    factors = recipe.network.reduction
    prepared = prepare_volume(exam.voxels, exam.spacing_mm, recipe.preprocessing, [STRIDE * f for f in factors])
    reduced = F.avg_pool3d(prepared.voxels[None, None], factors)[0, 0]
    points = (prepared.to_network(exam.points) + 0.5) / np.array(factors[::-1]) - 0.5
    return ReducedVolume(((reduced + 1) * 127.5).round().to(torch.uint8).numpy(), points)


class VolumeTask:
    """A recipe on its scans; see `trainer.training.task.Task`. Scans are read one at a time and kept reduced."""

    def __init__(
        self, recipe: VolumeRecipe, scans: Iterable[VolumeExam], validation: Sequence[VolumeExam] = ()
    ) -> None:
        self.recipe, self.validation = recipe, validation
        self.volumes = [reduce_exam(scan, recipe) for scan in scans]
        self.samples_per_epoch = len(self.volumes)

    @property
    def schedule(self) -> VolumeRecipe:
        """See `Task`."""
        return self.recipe

    def config(self) -> dict[str, Any]:
        """See `Task`."""
        return asdict(self.recipe)

    def fingerprint(self) -> str:
        """See `Task`."""
        digest = hashlib.sha256()
        for volume in self.volumes:
            digest.update(volume.voxels.tobytes())
            digest.update(volume.points.tobytes())
        return digest.hexdigest()

    def objective(self) -> VolumeObjective:
        """See `Task`."""
        return VolumeObjective(self.recipe)

    def samples(self, seed: int) -> VolumeSamples:
        """See `Task`."""
        return VolumeSamples(self, seed)

    def validate(self, network: nn.Module, device: torch.device, ranks: Ranks) -> tuple[float, dict[str, Any]] | None:
        """See `Task`."""
        if not self.validation:
            return None
        assert isinstance(network, SpineOneVolume)
        mine = evaluate_volumes(network, self.manifest({}, {}), ranks.share(self.validation), device)
        figures = volume_figures(ranks.gather(mine))
        return float(figures["detection_rate_20mm"] + figures["detection_rate_6mm"]), dict(figures)

    def save(self, folder: Path, network: nn.Module, training: dict[str, Any], figures: dict[str, Any]) -> None:
        """See `Task`."""
        assert isinstance(network, SpineOneVolume)
        save_volume_package(folder, network, self.manifest({**training, "scans": len(self.volumes)}, figures))

    def manifest(self, training: dict[str, Any], figures: dict[str, Any]) -> VolumeManifest:
        """The manifest of a network of this recipe."""
        return VolumeManifest(
            name=f"spineone-{self.recipe.name}",
            network=self.recipe.network,
            preprocessing=self.recipe.preprocessing,
            suppression=self.recipe.suppression,
            training=training,
            figures=figures,
        )


class VolumeObjective(Objective):
    """Focal and offset loss of the vertebrae."""

    def __init__(self, recipe: VolumeRecipe) -> None:
        super().__init__()
        self.network = self.detector = SpineOneVolume(recipe.network)

    def forward(self, batch: Batch, associate: bool) -> dict[str, Tensor]:
        output = self.detector.maps(batch["volumes"])
        return {"vertebra": volume_loss(output, batch["heatmap"], batch["offsets"], associate=associate)}


class VolumeSamples(Dataset[Batch]):
    """Every scan comes once in each epoch, in random order, as a crop around one of its vertebrae."""

    def __init__(self, task: VolumeTask, seed: int) -> None:
        self.task, self.seed = task, seed

    def __getitem__(self, index: int) -> Batch:
        """Sample number ``index`` of the whole run: ``volumes`` (1, Z, Y, X), ``heatmap`` and ``offsets``."""
        epoch, place = divmod(index, self.task.samples_per_epoch)
        order = np.random.default_rng([self.seed, 1_000_003, epoch]).permutation(self.task.samples_per_epoch)
        rng, recipe = np.random.default_rng([self.seed, index]), self.task.recipe
        voxels, points = cut(self.task.volumes[int(order[place])], recipe.crop, rng)
        if rng.random() < recipe.flip:
            voxels = voxels[:, :, ::-1]
            points = points * [-1, 1, 1] + [recipe.crop[2] - 1, 0, 0]
        jitter = recipe.contrast_jitter
        values = voxels.astype(np.float32) / 127.5 - 1
        values = values * rng.uniform(1 - jitter, 1 + jitter) + rng.uniform(-jitter, jitter)
        heatmap, offsets = draw_volume_targets(points, recipe.crop, recipe.network.radius)
        return {
            "volumes": torch.from_numpy(values.astype(np.float32))[None],
            "heatmap": torch.from_numpy(heatmap),
            "offsets": torch.from_numpy(offsets),
        }


def cut(
    volume: ReducedVolume, size: tuple[int, int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], FloatArray]:
    """A crop of (z, y, x) voxels that holds a random vertebra and is dark beyond the scan; and the points in its voxels."""
    chosen = volume.points[int(rng.integers(len(volume.points)))][::-1]
    corner = np.empty(3, dtype=int)
    for axis, (length, side) in enumerate(zip(volume.voxels.shape, size, strict=True)):
        near, far = min(0, length - side), max(0, length - side)
        wanted = chosen[axis] - side * rng.uniform(0.2, 0.8)
        corner[axis] = int(np.clip(round(wanted), near, far))
    crop = np.zeros(size, np.uint8)
    source = tuple(
        slice(max(0, c), max(0, min(c + s, n))) for c, s, n in zip(corner, size, volume.voxels.shape, strict=True)
    )
    place = tuple(slice(part.start - c, part.stop - c) for part, c in zip(source, corner, strict=True))
    crop[place] = volume.voxels[source]
    return crop, volume.points - corner[::-1]
