"""What decides a network: its config, and the sizes and numbers that every detector shares."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from spineone_core.anatomy import Structure
from spineone_core.network.backbone import ARCHITECTURES

STRUCTURES: tuple[Structure, ...] = (Structure.DISC, Structure.VERTEBRA)
CLASSES = 2
LEVELS = 5
# Heads work at this stride; their maps are upsampled to the input (reading 6).
HEAD_STRIDE = 4
# Inputs are padded to a multiple of this, so that every stage halves exactly.
SIZE_MULTIPLE = 32
# Heatmap -> (number of its channels, how many of them say where a keypoint is and have offsets). "ocpc" is Eq. 1 with one channel
# for each class. "conventional" has five levels and two classes (K + C = 7; Section III-C, reading 15). "levels" has five levels
# and no class; it is for the two-stage detectors, whose classifier works on crops.
HEATMAPS: dict[str, tuple[int, int]] = {
    "ocpc": (CLASSES, CLASSES),
    "conventional": (LEVELS + CLASSES, LEVELS),
    "levels": (LEVELS, LEVELS),
    # Eq. 1 with a channel for each category of the competition; how many those are depends on the structure.
    "categories": (0, 0),
}
LAYERS = ("plain", "cited")
# Discs v1 to v5, vertebrae v1 and v2 (SDID-TC). Channel 0 is normal.
CATEGORIES: dict[Structure, int] = {Structure.DISC: 5, Structure.VERTEBRA: 2}
# Heatmaps with one channel for each class, on which candidates are looked for.
CLASS_HEATMAPS = ("ocpc", "categories")


class ConfigError(ValueError):
    """A network config is impossible; the message names the field, the value and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Everything that decides the architecture. The defaults are the paper's DeepLabv3+(Res101) SpineOne.

    ``architecture`` and ``backbone`` are as in ``ARCHITECTURES``, ``heatmap`` is as in ``HEATMAPS``. ``slices`` is the
    number of input channels. ``width`` is the number of channels of the first stage (64 is standard; all channels of a
    trunk scale with it) and ``decoder_channels`` that of decoder, pyramid, tower or first deconvolution.
    ``attention_stride`` is the stride at which attention works (4 in the paper; 8 or 16 saves most of the time on a CPU).
    ``aspp_pooling`` adds the image pooling of ASPP. ``layers`` are ``cited``, as in the papers that the architectures come
    from (docs/readings.md, reading 30), or ``plain``, as in packages that do not say. ``crop_mm`` and ``crop_px`` are the
    side of the crops that the classifier of a two-stage detector sees.
    """

    architecture: str = "deeplabv3plus"
    backbone: str = "resnet101"
    heatmap: str = "ocpc"
    slices: int = 7
    width: int = 64
    decoder_channels: int = 256
    low_level_channels: int = 48
    feature_channels: int = 64
    aspp_rates: tuple[int, ...] = (6, 12, 18)
    aspp_pooling: bool = False
    pam: bool = True
    cam: bool = True
    attention_stride: int = 4
    offset: bool = True
    layers: str = "plain"
    crop_mm: float = 50.0
    crop_px: int = 112

    def __post_init__(self) -> None:
        _require(
            self.architecture in ARCHITECTURES, "architecture", self.architecture, f"one of {', '.join(ARCHITECTURES)}"
        )
        allowed = ARCHITECTURES[self.architecture].trunks
        _require(
            self.backbone in allowed, "backbone", self.backbone, f"for {self.architecture} one of {', '.join(allowed)}"
        )
        _require(self.heatmap in HEATMAPS, "heatmap", self.heatmap, f"one of {', '.join(HEATMAPS)}")
        _require(self.layers in LAYERS, "layers", self.layers, f"one of {', '.join(LAYERS)}")
        _require(1 <= self.slices <= 11, "slices", self.slices, "1 to 11")
        _require(self.attention_stride in (4, 8, 16, 32), "attention_stride", self.attention_stride, "4, 8, 16 or 32")
        for name in ("width", "decoder_channels", "low_level_channels", "feature_channels"):
            _require(getattr(self, name) >= 8, name, getattr(self, name), "at least 8")
        _require(10 <= self.crop_mm <= 200, "crop_mm", self.crop_mm, "10 to 200")
        _require(self.crop_px >= 16, "crop_px", self.crop_px, "at least 16")

    def channels(self, structure: Structure) -> int:
        """Number of heatmap channels of a structure."""
        return CATEGORIES[structure] if self.heatmap == "categories" else HEATMAPS[self.heatmap][0]

    def located_channels(self, structure: Structure) -> int:
        """Number of heatmap channels of a structure that have offsets; they come first."""
        return CATEGORIES[structure] if self.heatmap == "categories" else HEATMAPS[self.heatmap][1]

    @property
    def two_stage(self) -> bool:
        """Whether a classifier of crops follows."""
        return self.heatmap == "levels"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> NetworkConfig:
        """Raises ``ConfigError`` on an unknown or impossible field."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigError(f"unknown network option {', '.join(unknown)}; allowed: {', '.join(sorted(known))}")
        return cls(**{**data, "aspp_rates": tuple(data.get("aspp_rates", cls().aspp_rates))})


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"network option {name} = {value!r}; allowed: {allowed}")
