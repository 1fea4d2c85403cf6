"""One exam, one result: what comes again, or beside what was analysed, sends nothing new."""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from sqlalchemy import select

from dicom_node.analysis import jobs, worker
from dicom_node.analysis.analyse import settings_digest
from dicom_node.database.connection import Database, open_database
from dicom_node.database.tables import Job, OutboxRow, ResultFile, ResultRow
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import ResultsRules
from dicom_node.system.clock import utc_now
from dicom_node.system.files import sha256_of
from tests.fakes.datasets import STUDY, encode, mr_image
from tests.fakes.detector import FakeDetector
from tests.fakes.still_node import StillNode


@pytest.fixture
def node(database: Database, node_settings: NodeSettings) -> StillNode:
    return StillNode.with_a_destination(database, node_settings)


def exam(**changes: Any) -> list[Dataset]:
    images = [mr_image(number) for number in range(1, 6)]
    for image in images:
        for keyword, value in changes.items():
            setattr(image, keyword, value)
    return images


def other_series(description: str) -> list[Dataset]:
    images = [mr_image(number, series=STUDY + ".9") for number in range(21, 24)]
    for image in images:
        image.SeriesDescription = description
    return images


def stored(node: StillNode) -> tuple[int, int]:
    """How many results there are, and how many objects were meant for the destination."""
    with node.database.read() as session:
        return len(session.scalars(select(ResultRow)).all()), len(session.scalars(select(OutboxRow)).all())


def predecessor(report: Dataset) -> str:
    (study,) = report.PredecessorDocumentsSequence
    return str(study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


@pytest.mark.parametrize("description", ["localiser", "t1_tse_sag"])
def test_a_late_series__gives_no_new_result(node: StillNode, description: str) -> None:
    node.receive(*exam())
    node.work()
    before = stored(node)
    node.receive(*other_series(description))
    job = node.work()
    assert (job.generation, job.state, job.result_id) == (2, "done", 1)
    assert stored(node) == before == (1, 3)


def _implicit(image: Dataset) -> bytes:
    return encode(image, implicit=True)


def _deflated(image: Dataset) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(encode(image)) + packer.flush()


def _compressed(syntax: str) -> Callable[[Dataset], bytes]:
    def pack(image: Dataset) -> bytes:
        image.compress(syntax, generate_instance_uid=False)
        return encode(image)

    return pack


@pytest.mark.parametrize(
    ("syntax", "pack"),
    [
        (ImplicitVRLittleEndian, _implicit),
        (DeflatedExplicitVRLittleEndian, _deflated),
        (RLELossless, _compressed(RLELossless)),
        (JPEGLSLossless, _compressed(JPEGLSLossless)),
    ],
)
def test_the_same_pixels_in_another_syntax__give_no_new_result(
    node: StillNode, syntax: str, pack: Callable[[Dataset], bytes]
) -> None:
    node.receive(*exam())
    node.work()
    for image in exam():
        node.receive(image, data=pack(image), transfer_syntax_uid=str(syntax))
    job = node.work()
    assert (job.generation, job.state, job.result_id, stored(node)) == (2, "done", 1, (1, 3))
    assert not list((node.settings.data_dir / "quarantine").iterdir())


def test_what_nobody_reads__gives_no_new_result(node: StillNode) -> None:
    node.receive(*exam())
    node.work()
    node.receive(*exam(InstitutionName="Elsewhere", PatientComments="called at 9"))
    assert (node.work().result_id, stored(node)) == (1, (1, 3))


@pytest.mark.parametrize(
    "corrected", [{"AccessionNumber": "A-2"}, {"PatientID": "RIGHT"}, {"PatientName": "RIGHT^NAME"}]
)
def test_a_correction__gives_one_new_result_that_names_the_one_before(
    node: StillNode, corrected: dict[str, str]
) -> None:
    node.receive(*exam())
    node.work()
    node.receive(*exam(**corrected))
    node.work()
    node.receive(*other_series("localiser"))
    node.work()
    assert stored(node) == (2, 6)
    first, second = node.reports()
    assert predecessor(second) == first.SOPInstanceUID
    assert {keyword: str(second.get(keyword)) for keyword in corrected} == corrected


def test_another_stack__is_another_result(node: StillNode) -> None:
    node.receive(*exam())
    node.work()
    node.receive(mr_image(6))
    node.work()
    assert stored(node) == (2, 6)
    assert predecessor(node.reports()[1]) == node.reports()[0].SOPInstanceUID


def test_a_study_without_t2__is_reported_once(node: StillNode) -> None:
    node.receive(*other_series("t1_tse_sag"))
    assert "no_sagittal_t2" in node.work().reason
    late = other_series("localiser")
    for number, image in enumerate(late):
        image.SOPInstanceUID, image.SeriesInstanceUID = f"{STUDY}.1.0{number}", STUDY + ".10"
        image.InstitutionName, image.StudyDescription = "Elsewhere", "of the localiser"
    node.receive(*late)
    assert (node.work().result_id, stored(node)) == (1, (1, 1))
    node.receive(*exam())
    node.work()
    assert stored(node) == (2, 4)
    assert predecessor(node.reports()[1]) == node.reports()[0].SOPInstanceUID


# ---------------------------------------------------------------- same UID, same bytes


def test_after_the_loss_of_the_database__what_is_made_again_has_other_uids(node: StillNode, empty_node: Path) -> None:
    node.receive(*exam())
    node.work()
    (before,) = node.reports()
    files = {path: path.read_bytes() for path in (node.settings.data_dir / "results").rglob("*") if path.is_file()}
    node.database.close()
    path = node.settings.data_dir / "node.db"
    for leftover in path.parent.glob("node.db*"):
        leftover.unlink()
    shutil.copy(empty_node, path)
    again = StillNode(open_database(node.settings.database), node.settings)
    again.receive(*exam())
    again.work()
    (after,) = again.reports()
    again.database.close()
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    assert {path: path.read_bytes() for path in files} == files


@pytest.fixture
def killed(node: StillNode, monkeypatch: pytest.MonkeyPatch) -> StillNode:
    """A node whose worker was killed when its files were written and before the result was stored."""

    def kill(*args: object, **options: object) -> None:
        raise OSError("killed before the commit")

    node.receive(*exam())
    with monkeypatch.context() as patch:
        patch.setattr(worker, "store_result", kill)
        assert node.work().state == "waiting"
    return node


def again(node: StillNode) -> Job:
    with node.database.write() as session:
        for job in session.scalars(select(Job)):
            job.not_before = utc_now()
    worker.Worker(node.settings, node.database, FakeDetector()).run_once()
    with node.database.read() as session:
        job = jobs.newest(session, STUDY)
    assert job is not None
    return job


def test_files_of_an_earlier_attempt__are_kept_and_sent(
    killed: StillNode, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The zone of the machine is written into the objects, and may have changed in the meantime."""
    folder = killed.settings.data_dir / "results"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setenv("TZ", "Asia/Tokyo" if os.environ.get("TZ") != "Asia/Tokyo" else "UTC")
    time.tzset()
    request.addfinalizer(time.tzset)
    request.addfinalizer(monkeypatch.undo)
    assert again(killed).state == "done"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    with killed.database.read() as session:
        for row in session.scalars(select(ResultFile)):
            assert sha256_of(killed.settings.data_dir / row.path) == row.sha256


def test_a_damaged_file_of_an_earlier_attempt__is_never_sent(killed: StillNode) -> None:
    (report,) = (killed.settings.data_dir / "results").rglob("sr.dcm")
    report.write_bytes(b"other bytes")
    job = again(killed)
    assert job.state == "failed"
    assert "sr.dcm is another object" in job.reason
    assert stored(killed) == (0, 0)
    report.unlink()
    with killed.database.write() as session:
        jobs.retry(session, job.id)
    assert again(killed).state == "done"


# ---------------------------------------------------------------- settings


class MoreRules(ResultsRules):
    """The settings of a later release."""

    later: str = "usual"


def test_settings_digest__is_that_of_earlier_releases_as_long_as_no_later_key_is_used(
    node_settings: NodeSettings,
) -> None:
    digest = settings_digest(node_settings)
    # As 0.3.0 and 0.4.0 computed it.
    assert digest == "0444aef7ace58e09148fc18754e74f8cad8f75f7de74206070243fc966739c80"
    more = node_settings.model_copy(update={"results": MoreRules()})
    assert settings_digest(more) == digest
    used = node_settings.model_copy(update={"results": MoreRules(later="another")})
    assert settings_digest(used) != digest


@pytest.mark.parametrize("key", ["structured_report", "table_page", "scoord3d"])
def test_settings_digest__differs_with_each_setting(node_settings: NodeSettings, key: str) -> None:
    value = not getattr(node_settings.results, key)
    changed = node_settings.model_copy(update={"results": ResultsRules(**{key: value})})
    assert settings_digest(changed) != settings_digest(node_settings)
