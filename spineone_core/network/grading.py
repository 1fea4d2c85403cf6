"""The grading head: a small network that looks once more at each disc or vertebra, at the place that the detector found.

One network grades the five structures of a kind together. Its outputs are the class, for discs also the Pfirrmann grade as
CORAL's ordered thresholds (Cao, Mirjalili and Raschka, 2020), and the signs that decide the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spineone_core.anatomy import Structure
from spineone_core.backbones.deeplab import conv_bn_relu

PFIRRMANN_GRADES = 5
# What is said of a disc beside its grade. Endplates are those that face the disc.
DISC_SIGNS = ("narrowing", "bulging", "upper_endplate", "lower_endplate", "modic")
# What makes a vertebra "degenerative" by the data's definition: at the disc above it and at the disc below it.
VERTEBRA_SIGNS = ("modic_above", "upper_endplate", "modic_below", "lower_endplate")
SIGNS: dict[Structure, tuple[str, ...]] = {Structure.DISC: DISC_SIGNS, Structure.VERTEBRA: VERTEBRA_SIGNS}
# How the class of a structure comes about: from an output of its own, from its signs, from the mean of both logits, or, of a
# vertebra, from its signs joined with those that the disc network sees at the neighbouring discs.
CLASS_FROM = ("direct", "signs", "mean", "joined")
LEVELS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class GradingConfig:
    """One grading network of a ``structure``.

    Crops of ``crop_px`` x ``crop_px`` pixels show ``crop_mm`` millimetres, turned along the spine. They are cut from pictures
    of ``spacing_mm`` on ``slices`` slices about ``slice_step_mm`` apart. ``width`` is the number of channels after the first
    stage. With ``context`` each structure also sees the mean of all five. ``members`` networks of this kind are averaged.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    structure: Structure
    crop_mm: float = 64.0
    crop_px: int = 80
    spacing_mm: float = 0.625
    slices: int = 3
    slice_step_mm: float = 4.5
    width: int = 24
    context: bool = True
    class_from: str = "direct"
    members: int = 1

    def __post_init__(self) -> None:
        if not (20 <= self.crop_mm <= 200 and 16 <= self.crop_px <= 512 and 0.1 <= self.spacing_mm <= 4):
            raise ValueError(
                f"crop_mm {self.crop_mm}, crop_px {self.crop_px}, spacing_mm {self.spacing_mm}; "
                "allowed: 20 to 200, 16 to 512, 0.1 to 4"
            )
        if self.width < 4 or self.members < 1 or self.slices < 1 or self.slices % 2 == 0:
            raise ValueError(
                f"width {self.width}, members {self.members}, slices {self.slices}; allowed: from 4, from 1, odd"
            )
        if self.class_from not in CLASS_FROM:
            raise ValueError(f"class_from {self.class_from!r}; allowed: {', '.join(CLASS_FROM)}")
        if self.class_from == "joined" and self.structure is Structure.DISC:
            raise ValueError("class_from 'joined' is for vertebrae, which have discs beside them")

    @property
    def signs(self) -> tuple[str, ...]:
        """The names of the signs, in the order of the outputs."""
        return SIGNS[self.structure]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "structure": self.structure.value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> GradingConfig:
        """The config that `to_json` gave; ``ValueError`` if it has an unknown key or value."""
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"unknown grading option {', '.join(unknown)}")
        return cls(**{**data, "structure": Structure(data["structure"])})


class GradingLogits(NamedTuple):
    """Logits of a batch of spines: ``direct`` (B, 5), ``above`` (B, 5, 4) of "grade over k", falling with k, ``signs`` (B, 5, n).

    ``above`` has no columns for vertebrae, which have no grade.
    """

    direct: Tensor
    above: Tensor
    signs: Tensor


class GradingNetwork(nn.Module):
    """Three stages of residual blocks on each crop, mean and maximum, and linear outputs for each structure."""

    def __init__(self, config: GradingConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width, 2 * config.width, 4 * config.width]
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 5, 2, 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.stages = nn.Sequential(
            _Residual(widths[0]), *(nn.Sequential(_halving(a, b), _Residual(b)) for a, b in pairwise(widths))
        )
        features = 2 * widths[-1]
        self.mix = nn.Sequential(
            nn.Linear(features * (2 if config.context else 1), features // 2), nn.ReLU(inplace=True), nn.Dropout(0.3)
        )
        self.level = nn.Parameter(torch.zeros(LEVELS, features // 2))
        self.direct = nn.Linear(features // 2, 1)
        self.sign = nn.Linear(features // 2, len(config.signs))
        graded = config.structure is Structure.DISC
        self.severity = nn.Linear(features // 2, 1, bias=False) if graded else None
        # The first threshold, and how much each further one lies above it (softplus), so that the order always holds.
        self.thresholds = nn.Parameter(torch.zeros(PFIRRMANN_GRADES - 1)) if graded else None

    def forward(self, crops: Tensor) -> GradingLogits:
        """(B, 5, P, P), z-scored for each spine, top to bottom."""
        batch, levels = crops.shape[:2]
        maps = self.stages(self.stem(crops.flatten(0, 1)[:, None].contiguous(memory_format=torch.channels_last)))
        seen = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1).reshape(batch, levels, -1)
        if self.config.context:
            seen = torch.cat([seen, seen.mean(dim=1, keepdim=True).expand_as(seen)], dim=2)
        features = self.mix(seen) + self.level
        return GradingLogits(self.direct(features)[..., 0], self._above(features), self.sign(features))

    def _above(self, features: Tensor) -> Tensor:
        if self.severity is None or self.thresholds is None:
            return features.new_zeros(*features.shape[:2], 0)
        steps = nn.functional.softplus(self.thresholds[1:]).cumsum(0)
        thresholds = torch.cat([self.thresholds[:1], self.thresholds[:1] + steps])
        severity: Tensor = self.severity(features)
        return severity - thresholds


class _Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv_bn_relu(channels, channels, 3)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu(maps + self.second(self.first(maps)))


def _halving(before: int, after: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class GradingEnsemble(nn.Module):
    """The members of a config; their logits are averaged, which keeps the thresholds of the grade in order."""

    def __init__(self, config: GradingConfig, members: Sequence[GradingNetwork] | None = None) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(members or (GradingNetwork(config) for _ in range(config.members)))
        if len(self.members) != config.members:
            raise ValueError(f"{len(self.members)} networks for {config.members} members")
        # The crops have this order too.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, crops: Tensor) -> GradingLogits:
        """(B, 5, P, P) -> the mean logits."""
        each = [member(crops) for member in self.members]
        return GradingLogits(*(torch.stack(parts).mean(dim=0) for parts in zip(*each, strict=True)))


def class_logits(logits: GradingLogits, config: GradingConfig, discs: GradingLogits | None = None) -> Tensor:
    """(B, 5) logits of "degenerative", as ``config.class_from`` says.

    From the signs of a vertebra it is their noisy-OR: the class holds if any sign does. A disc's is the noisy-OR of bulging
    and of a Pfirrmann grade of 3 or more. ``discs`` are the logits of the discs of the same spines, for ``joined``.

    Raises
    ------
    ValueError
        If the class is joined and there are no discs.
    """
    if config.class_from == "direct":
        return logits.direct
    if config.structure is Structure.DISC:
        causes = torch.cat([logits.above[..., 1:2], logits.signs[..., 1:2]], dim=-1)
    else:
        causes = logits.signs
    if config.class_from == "joined":
        if discs is None:
            raise ValueError("the class of vertebrae is joined with that of discs, but no network looks at these")
        causes = joined_signs(causes, discs.signs)
    either = noisy_or(causes)
    return (either + logits.direct) / 2 if config.class_from == "mean" else either


def joined_signs(vertebrae: Tensor, discs: Tensor) -> Tensor:
    """(..., 5, 4) signs of vertebrae and (..., 5, 5) of discs -> (..., 5, 4) mean logit of both looks at the same place.

    The disc above a vertebra is that of the place before; no network looks at T12-L1, so the upper signs of L1 stay as they
    are.
    """
    modic, upper, lower = (discs[..., DISC_SIGNS.index(name)] for name in ("modic", "upper_endplate", "lower_endplate"))
    seen = torch.stack([modic.roll(1, -1), lower.roll(1, -1), modic, upper], dim=-1)
    seen[..., 0, :2] = vertebrae[..., 0, :2]
    return (vertebrae + seen) / 2


def noisy_or(logits: Tensor) -> Tensor:
    """(..., n) logits of independent causes -> (...) logit that at least one holds."""
    none = nn.functional.logsigmoid(-logits.double()).sum(dim=-1)
    some = torch.log(-torch.expm1(none.clamp_max(-1e-9)))
    return (some - none).to(logits.dtype)
