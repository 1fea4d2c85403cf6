"""A study is complete when as many MR images are here as a DICOMweb archive has; what is missing is fetched from it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.cli.set_up import check_partners
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.images.store import InstanceStore
from dicom_node.processes.scheduler import Scheduler
from dicom_node.receiving.census import Census
from dicom_node.receiving.pull import Retriever
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.web_destinations import DicomWebArchive
from tests.fakes import audit
from tests.fakes.datasets import STUDY, incoming, mr_image
from tests.fakes.wado_archive import WadoArchive, running_wado_archive


def report() -> Dataset:
    """The archive has our own report of the study too."""
    dataset = mr_image(20, series=f"{STUDY}.9")
    dataset.Modality = "SR"
    return dataset


@pytest.fixture
def archive() -> Iterator[WadoArchive]:
    others = [mr_image(number, study="1.2.9") for number in range(1, 8)]
    axial = mr_image(4, series=f"{STUDY}.2")
    with running_wado_archive([*(mr_image(n) for n in (1, 2, 3)), axial, report(), *others]) as running:
        yield running


@pytest.fixture
def settings(node_settings: NodeSettings, archive: WadoArchive) -> NodeSettings:
    values = node_settings.model_dump()
    values["delivery"] |= {"timeout_s": 2.0}
    table = {"name": "vna", "kind": "dicomweb", "url": archive.url, "fetch_missing": True}
    peers = [{"ae_title": "ROUTER", "archive": "vna"}]
    return NodeSettings(**{**values, "archives": [table], "peers": peers})


@pytest.fixture
def census(settings: NodeSettings, database: Database) -> Census:
    return Census(settings, database, lambda archive, uid: Retriever(settings, database, archive).pull(uid, "MR"))


def receive(settings: NodeSettings, database: Database, *numbers: int) -> None:
    store = InstanceStore.of(settings, database)
    for number in numbers:
        assert store.receive(incoming(mr_image(number), calling_ae="ROUTER")) == 0


def pass_time(database: Database, seconds: float) -> None:
    """Make it look as if everything had happened that much earlier."""
    with database.write() as session:
        row = session.get_one(StudyRow, STUDY)
        row.first_received_at -= timedelta(seconds=seconds)
        row.last_received_at -= timedelta(seconds=seconds)
        row.asked_at = row.asked_at and row.asked_at - timedelta(seconds=seconds)


def counts(database: Database) -> tuple[int | None, int | None]:
    with database.read() as session:
        row = session.get_one(StudyRow, STUDY)
        return row.images_here, row.images_expected


def is_complete(settings: NodeSettings, database: Database) -> bool:
    Scheduler(settings, database).complete_studies()
    with database.read() as session:
        return session.get_one(StudyRow, STUDY).state == "complete"


@pytest.mark.parametrize("gives_numbers", [True, False])
def test_census__counts_mr_images_alone_and_fetches_what_is_missing(
    census: Census, archive: WadoArchive, settings: NodeSettings, database: Database, gives_numbers: bool
) -> None:
    archive.gives_numbers = gives_numbers
    receive(settings, database, 1, 2)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    assert counts(database) == (2, 4)
    assert any("/instances?" in path for path, _, _ in archive.asked) == (not gives_numbers)
    assert not is_complete(settings, database)
    pass_time(database, 60)
    assert not is_complete(settings, database)
    census.fetch_due(settings.archives[0])
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    assert counts(database) == (4, 4)
    assert is_complete(settings, database)
    trail = audit.messages(settings.data_dir)
    # Two counts by the node, and a query of the fetch.
    assert len(audit.of_event(trail, "110112")) == 3


@pytest.mark.parametrize(
    ("status", "body"), [(500, b""), (302, b""), (200, b"nonsense"), (204, b"")], ids=["500", "302", "text", "none"]
)
def test_census__without_an_answer_the_quiet_time_decides(
    census: Census, archive: WadoArchive, settings: NodeSettings, database: Database, status: int, body: bytes
) -> None:
    archive.finds = status, body
    receive(settings, database, 1, 2)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    assert counts(database) == (None, None)
    assert not is_complete(settings, database)
    pass_time(database, 60)
    assert is_complete(settings, database)


@pytest.mark.parametrize("number", ['"9999999999999999"', '"9"', "-1", "true", '"many"', '{"a": 1}', "[]"])
def test_census__a_number_that_is_none_is_counted(
    census: Census,
    archive: WadoArchive,
    settings: NodeSettings,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    number: str,
) -> None:
    match = f'{{"0020000E": {{"Value": ["{STUDY}.1"]}}, "00201209": {{"Value": [{number}]}}}}'
    find = archive.find
    series = 200, f"[{match}]".encode()
    monkeypatch.setattr(archive, "find", lambda path: series if "/series?" in path else find(path))
    receive(settings, database, 1)
    pass_time(database, 3)
    census.ask_due(settings.archives[0])
    assert counts(database) == (1, 9 if number == '"9"' else 3)


def test_pull__from_a_host_with_a_long_name_fits_the_index(
    settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL would refuse the row."""
    monkeypatch.setattr(DicomWebArchive, "host", "a" * 200)
    assert Retriever(settings, database, settings.archives[0]).pull(STUDY, "MR").received == 4
    with database.read() as session:
        assert set(session.scalars(select(Instance.calling_address))) == {"a" * 64}


def test_check__asks_the_archive_by_qido(
    archive: WadoArchive, settings: NodeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_partners(settings)
    assert capsys.readouterr().out == "ok: archive vna answers\n"
    assert archive.asked[0][0].startswith("/dicom-web/studies?")
    for status, words in ((401, "refuses the node's login"), (302, "redirects, which is not followed")):
        archive.finds = status, b""
        assert not check_partners(settings)
        assert words in capsys.readouterr().err
