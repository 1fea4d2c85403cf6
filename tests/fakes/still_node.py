"""A node whose work a test does step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.alerts.record import open_alerts
from dicom_node.analysis import completion, jobs
from dicom_node.analysis.release import Released, release
from dicom_node.analysis.worker import Worker
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, ResultFile
from dicom_node.images.incoming import SUCCESS
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import STUDY, incoming
from tests.fakes.detector import FakeDetector, FakeReading

DESTINATION = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}


@dataclass
class StillNode:
    """A node without processes: what it was sent, what it makes of it. ``counted`` has the images of each reading."""

    database: Database
    settings: NodeSettings
    counted: list[int] = field(default_factory=list)

    @staticmethod
    def with_a_destination(database: Database, settings: NodeSettings) -> StillNode:
        """A node that has somewhere to send results."""
        return StillNode(database, NodeSettings(**{**settings.model_dump(), "destinations": [DESTINATION]}))

    def receive(self, *images: Dataset, **changes: object) -> None:
        """Receive images as C-STORE requests."""
        store = InstanceStore(self.database, self.settings.data_dir)
        for one in images:
            assert store.receive(incoming(one, **changes)) == SUCCESS

    def work(self) -> Job:
        """Close the study and do its job; gives the job."""
        counted = self.counted

        class Counting(FakeDetector):
            def read_study(self, paths: Sequence[Path], *, min_slices: int = 1) -> FakeReading:
                counted.append(len(paths))
                return super().read_study(paths, min_slices=min_slices)

        with self.database.write() as session:
            later = utc_now() + timedelta(hours=1)
            completion.complete_due(session, now=later, quiet_seconds=1, max_wait_seconds=1)
            for job in session.scalars(select(Job)):
                job.not_before = utc_now()
        assert Worker(self.settings, self.database, Counting()).run_once()
        with self.database.read() as session:
            job = jobs.newest(session, STUDY)
        assert job is not None
        return job

    def release(self, **asked: str) -> Released:
        """Free the study as `dicom-node release` does."""
        with self.database.write() as session:
            return release(session, self.settings.data_dir, STUDY, now=utc_now(), **asked)  # type: ignore[arg-type]

    def alerts(self) -> dict[str, str]:
        """The details of the open alerts, by kind."""
        with self.database.read() as session:
            return {alert.kind: alert.detail for alert in open_alerts(session)}

    def reports(self) -> list[Dataset]:
        """All reports, oldest first."""
        with self.database.read() as session:
            rows = session.scalars(select(ResultFile).where(ResultFile.role == "report").order_by(ResultFile.id)).all()
        return [pydicom.dcmread(self.settings.data_dir / row.path) for row in rows]

    def patients(self) -> list[str]:
        """The Patient IDs of the reports."""
        return [str(report.PatientID) for report in self.reports()]

    def findings(self) -> str:
        """The newest findings.json."""
        with self.database.read() as session:
            rows = session.scalars(
                select(ResultFile).where(ResultFile.role == "findings").order_by(ResultFile.id)
            ).all()
        return (self.settings.data_dir / rows[-1].path).read_text()
