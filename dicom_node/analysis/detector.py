"""The detector as the node sees it. No other module imports it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from dicom_node.errors import ModelError
from dicom_node.settings.node import NodeSettings
from spineone_core.findings import Detection, ModelIdentity
from spineone_core.imaging.selection import Selection
from spineone_core.imaging.volume import SagittalVolume


class StudyReading(Protocol):
    """What a detector says about a study, and what it read."""

    @property
    def detection(self) -> Detection:
        """The findings, or the refusal."""

    @property
    def volume(self) -> SagittalVolume | None:
        """The series that was read; None if none could be read."""

    @property
    def selection(self) -> Selection:
        """How the series was chosen, and which others could have been."""


class StudyReader(Protocol):
    """The part of `spineone_core.detection.detector.Detector` that the node uses."""

    identity: ModelIdentity

    def read_study(self, paths: Sequence[Path], *, min_slices: int = 1) -> StudyReading:
        """Choose the series of a study among its files and grade it; a refusal is a detection too."""

    def gpu_memory(self) -> tuple[str, int, int] | None:
        """The GPU's name, free bytes and total bytes; None without a GPU."""


def load_detector(settings: NodeSettings) -> StudyReader:
    """The detector that the settings name.

    Raises
    ------
    ModelError
        If the model package is missing, damaged, of another architecture or not released (without card, figures,
        training data or licence), or the device does not exist.
    """
    from spineone_core.detection.class_rule import ClassRule
    from spineone_core.detection.detector import Detector
    from spineone_core.detection.devices import DeviceError
    from spineone_core.detection.model_package import ModelPackageError
    from spineone_core.detection.views import InferenceOptions

    if settings.model.threads:
        import torch

        torch.set_num_threads(settings.model.threads)
    model = settings.model
    options = InferenceOptions(precision=model.precision, flips=model.flips, scales=model.scales)
    try:
        return Detector.load(
            model.path,
            device=model.device,
            released=True,
            options=options,
            rule=ClassRule(settings.results.disc_degenerative_from_grade),
        )
    except (ModelPackageError, DeviceError) as error:
        raise ModelError(f"model {settings.model.path}: {error}") from error
