"""Pulling studies from an archive: what is missing here is fetched, in the way that the archive's settings name.

What comes is on disk and indexed before it counts. An interrupted pull continues where it stopped when it is started
again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance
from dicom_node.receiving.dimse_pull import DimsePull
from dicom_node.receiving.found import FoundImage, FoundStudy, Source
from dicom_node.receiving.web_pull import WebPull
from dicom_node.settings.node import AnyArchive, NodeSettings
from dicom_node.settings.sections import Archive
from dicom_node.system.log import get_logger


@dataclass(frozen=True, slots=True)
class Pulled:
    """How a pull of one study went: how many images the archive has, and how many were here, came or still lack."""

    study_uid: str
    images: int
    were_here: int
    received: int
    missing: int
    # What the archive said if it could not send everything.
    problem: str = ""


class Retriever:
    """Finds and fetches studies of one archive.

    Parameters
    ----------
    settings
        The settings of the whole node.
    database
        Knows which images are here.
    archive
        The archive to ask.
    """

    def __init__(self, settings: NodeSettings, database: Database, archive: AnyArchive) -> None:
        self._database = database
        self._archive = archive
        self._source: Source = (
            DimsePull(settings, database, archive)
            if isinstance(archive, Archive)
            else WebPull(settings, database, archive)
        )

    def find_studies(self, keys: Mapping[str, str]) -> list[FoundStudy]:
        """The studies that match keys such as StudyInstanceUID, AccessionNumber, PatientID or StudyDate
        (``20240101-20240131``), the oldest first.

        Raises
        ------
        DeliveryError
            If the archive cannot be asked.
        """
        return sorted(self._source.find_studies(keys), key=lambda study: (study.date, study.study_uid))

    def pull(self, study_uid: str, modality: str = "") -> Pulled:
        """Fetch those series of a study that have an image which is missing here.

        Raises
        ------
        DeliveryError
            If the archive cannot be asked.
        """
        images = self._source.find_images(study_uid, modality)
        missing = self._missing(images)
        problems = self._source.fetch(study_uid, missing) if missing else []
        left = self._missing(images)
        pulled = Pulled(
            study_uid,
            images=len(images),
            were_here=len(images) - len(missing),
            received=len(missing) - len(left),
            missing=len(left),
            problem="; ".join(dict.fromkeys(problems)),
        )
        get_logger().info(
            "pulled",
            archive=self._archive.name,
            study_uid=study_uid,
            images=pulled.images,
            received=pulled.received,
            missing=pulled.missing,
        )
        return pulled

    def _missing(self, images: Sequence[FoundImage]) -> list[FoundImage]:
        here: set[str] = set()
        uids = sorted({image.sop_instance_uid for image in images})
        with self._database.read() as session:
            for at in range(0, len(uids), 500):
                known = Instance.sop_instance_uid.in_(uids[at : at + 500])
                here |= set(
                    session.scalars(
                        select(Instance.sop_instance_uid).where(
                            known, Instance.is_current, Instance.purged_at.is_(None)
                        )
                    )
                )
        return [image for image in images if image.sop_instance_uid not in here]
