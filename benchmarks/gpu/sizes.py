"""What is measured: everything at the paper's size, or small enough for the tests of a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spineone_core.detection.views import PRECISIONS
from spineone_core.network.config import NetworkConfig
from trainer.recipes import paper, shipped
from trainer.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """``paper`` is the detector of the paper with pictures of ``side`` pixels; ``training`` the recipe whose steps are timed.

    ``attention`` is (batch, side of the features, channels) of the attention whose memory is measured; ``exams`` phantoms are
    read; each timing takes about ``seconds``. Without ``whole``, bf16 and ``torch.compile``, slow on a CPU, are left out.
    """

    paper: NetworkConfig
    training: Recipe
    side: int
    batches: tuple[int, ...]
    attention: tuple[int, int, int]
    exams: int
    seconds: float
    steps: int
    whole: bool

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that are timed, the fastest last."""
        return PRECISIONS if self.whole else PRECISIONS[:1]

    @property
    def two_stage(self) -> NetworkConfig:
        """The first of the paper's two-stage detectors, no wider than ``paper``: an hourglass and a ResNet18 for the crops."""
        full = NetworkConfig(architecture="hourglass", backbone="hourglass52", heatmap="levels", pam=False, cam=False)
        return replace(
            full,
            slices=self.paper.slices,
            width=self.paper.width,
            decoder_channels=self.paper.decoder_channels,
            low_level_channels=self.paper.low_level_channels,
            feature_channels=self.paper.feature_channels,
        )


def full() -> Sizes:
    """DeepLabv3+(Res101), 640 x 640, attention at stride 4."""
    return Sizes(
        paper=NetworkConfig(),
        training=paper(),
        side=640,
        batches=(1, 8, 16, 32),
        attention=(64, 160, 64),
        exams=4,
        seconds=4.0,
        steps=20,
        whole=True,
    )


def small() -> Sizes:
    """Tiny networks, one of each measurement; seconds on a CPU. fp32 only."""
    network = NetworkConfig(
        backbone="resnet18",
        slices=1,
        width=8,
        decoder_channels=16,
        low_level_channels=8,
        feature_channels=16,
    )
    base = shipped()
    recipe = replace(
        base,
        name="small",
        network=network,
        preprocessing=replace(base.preprocessing, fused=1),
        augmentation=replace(base.augmentation, size=(64, 64), tall=0.0),
        batch=2,
        phantom_share=0.0,
    )
    return Sizes(
        paper=network,
        training=recipe,
        side=64,
        batches=(1, 2),
        attention=(2, 16, 16),
        exams=1,
        seconds=0.05,
        steps=1,
        whole=False,
    )
