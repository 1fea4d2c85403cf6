"""How much a reproduction does: the paper's whole protocol, or a stated part of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from spineone_core.detection.preprocessing import PreprocessingConfig
from spineone_core.network.config import NetworkConfig
from spineone_core.network.rows import Row
from trainer.recipes import PRESETS, table5
from trainer.reproduce import paper
from trainer.training.recipe import Recipe
from trainer.volumes.recipe import VolumeRecipe

SPACING_MM = 0.4375
CANVAS_PX, CROP_PX, RADIUS_PX, WIDTH = 640, 512, 6.0, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The budget of a reproduction; the defaults are the paper's protocol.

    ``preset`` as in `trainer.recipes`; ``subset`` keeps so many exams of each part; ``width`` of the first stage, with
    which all channels shrink; ``spacing_mm`` of pixels, with which canvas, crop and radius shrink so that they cover the
    same millimetres; ``batch`` and ``learning_rate`` instead of the preset's; ``association_from`` instead of 75 %.
    ``volume_crop`` and ``volume_width`` are those of Table V's variant.
    """

    preset: str = "paper"
    epochs: int = paper.EPOCHS
    subset: int | None = None
    width: int = WIDTH
    spacing_mm: float = SPACING_MM
    batch: int | None = None
    learning_rate: float | None = None
    association_from: float | None = None
    volume_crop: int = 128
    volume_width: int = 16

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r}; allowed: {', '.join(PRESETS)}")
        if self.epochs < 1 or (self.subset is not None and self.subset < 1):
            raise ValueError(f"epochs {self.epochs}, subset {self.subset}; allowed: at least 1")
        if not 8 <= self.width <= WIDTH or not SPACING_MM <= self.spacing_mm <= 4:
            raise ValueError(
                f"width {self.width}, spacing {self.spacing_mm}; allowed: 8 to {WIDTH}, {SPACING_MM} to 4 mm"
            )

    @classmethod
    def smoke(cls) -> Budget:
        """A few seconds for each training: this shows whether every table and figure is made, not what it says."""
        return cls(
            preset="stable",
            epochs=2,
            width=8,
            spacing_mm=2.5,
            batch=2,
            association_from=0.5,
            volume_crop=32,
            volume_width=4,
        )

    @classmethod
    def nightly(cls) -> Budget:
        """A minute or two for each training: enough that every mechanism shows that it works on phantoms."""
        return cls(
            preset="stable",
            epochs=45,
            width=16,
            spacing_mm=2.5,
            batch=4,
            learning_rate=4e-3,
        )

    def recipe(self, row: Row, training_exams: int) -> Recipe:
        """The row's recipe cut down to this budget."""
        recipe = PRESETS[self.preset](row)
        batch = self.batch or recipe.batch
        steps = self.epochs * max(1, training_exams // batch)
        return replace(
            recipe,
            network=self._network(row.network),
            preprocessing=PreprocessingConfig(slices=row.network.slices, spacing_mm=self.spacing_mm),
            augmentation=replace(recipe.augmentation, size=(self.crop_px, self.crop_px), canvas=self.canvas_px),
            decoding=replace(recipe.decoding, radius_px=self.radius_px),
            epochs=self.epochs,
            batch=batch,
            learning_rate=self.learning_rate or recipe.learning_rate,
            # The warm-up is meant for long runs; in a short one it takes a tenth of the steps.
            warmup_steps=min(recipe.warmup_steps, steps // 10),
            association_from=self._association_from(recipe.association_from),
        )

    def volume_recipe(self) -> VolumeRecipe:
        """Table V's recipe cut down to this budget."""
        recipe = table5()
        return replace(
            recipe,
            network=replace(recipe.network, width=self.volume_width),
            crop=(self.volume_crop,) * 3,
            epochs=self.epochs,
            batch=min(recipe.batch, self.batch or recipe.batch),
            learning_rate=self.learning_rate or recipe.learning_rate,
            warmup_steps=min(recipe.warmup_steps, self.epochs),
            association_from=self._association_from(recipe.association_from),
        )

    def _association_from(self, recipes: float) -> float:
        """The share to use; 1 stays 1, as a row without objective association never gets it."""
        return recipes if self.association_from is None or recipes >= 1 else self.association_from

    def _network(self, network: NetworkConfig) -> NetworkConfig:
        """The network with all channels and the classifier's crops shrunk in proportion."""

        def cut(count: int, least: int = 8) -> int:
            return max(least, count * self.width // WIDTH)

        if self.width == WIDTH:
            return network
        return replace(
            network,
            width=cut(network.width),
            decoder_channels=cut(network.decoder_channels),
            low_level_channels=cut(network.low_level_channels),
            feature_channels=cut(network.feature_channels),
            crop_px=cut(network.crop_px, least=32),
        )

    @property
    def canvas_px(self) -> int:
        """The paper's canvas in pixels of this budget's spacing."""
        return round(CANVAS_PX * SPACING_MM / self.spacing_mm)

    @property
    def crop_px(self) -> int:
        """Side of a crop, a multiple of 32."""
        return max(64, round(CROP_PX * SPACING_MM / self.spacing_mm / 32) * 32)

    @property
    def radius_px(self) -> float:
        """The paper's radius in pixels of this budget's spacing, at least 2."""
        return max(2.0, RADIUS_PX * SPACING_MM / self.spacing_mm)

    def departures(self) -> list[str]:
        """How a run with this budget differs from the paper's protocol; empty if it does not."""
        found = self._common_departures()
        if self.width != WIDTH:
            found.append(f"networks of width {self.width} instead of {WIDTH}")
        if self.spacing_mm != SPACING_MM:
            found.append(f"pixels of {self.spacing_mm:g} mm instead of {SPACING_MM}, crops of {self.crop_px} px")
        if self.batch is not None:
            found.append(f"batch {self.batch} instead of 64 and 16")
        if self.preset != "paper":
            found.append(f"preset {self.preset}")
        return found

    def volume_departures(self) -> list[str]:
        """The same for Table V, for which the paper only says how large the input is."""
        found, whole = self._common_departures(), table5()
        if self.volume_width != whole.network.width:
            found.append(f"network of width {self.volume_width} instead of {whole.network.width}")
        if self.volume_crop != whole.crop[0]:
            found.append(f"crops of {self.volume_crop} reduced voxels instead of {whole.crop[0]}")
        return found

    def _common_departures(self) -> list[str]:
        found = []
        if self.epochs != paper.EPOCHS:
            found.append(f"{self.epochs} epochs instead of {paper.EPOCHS}")
        if self.subset is not None:
            found.append(f"at most {self.subset} exams of each part")
        if self.learning_rate is not None:
            found.append(f"learning rate {self.learning_rate:g}")
        if self.association_from is not None:
            found.append(f"objective association from {self.association_from:.0%}")
        return found
