"""What an archive has, and what a way of asking and fetching must offer (`dimse_pull`, `web_pull`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study of the archive. It holds no patient data: queries may use them, but they are never shown."""

    study_uid: str
    date: str
    modalities: str


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image of the archive."""

    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str


class Source(Protocol):
    """One archive, in one way of asking and fetching. Each method raises `DeliveryError` if the archive cannot be asked."""

    def find_studies(self, keys: Mapping[str, str]) -> list[FoundStudy]:
        """The studies that match keywords and values; none twice."""

    def find_images(self, study_uid: str, modality: str) -> list[FoundImage]:
        """The images of a study: those of one modality, or all if ``modality`` is empty."""

    def fetch(self, study_uid: str, missing: Sequence[FoundImage]) -> list[str]:
        """Fetch the series of these images; returns what went wrong."""
