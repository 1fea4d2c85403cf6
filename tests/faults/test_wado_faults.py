"""An archive that is read by QIDO-RS and WADO-RS, in trouble: what came whole is kept, the rest is named, and the node is
bounded in memory, bytes and time."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.alerts.record import open_alerts
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance
from dicom_node.dicomweb import qido
from dicom_node.errors import DeliveryError
from dicom_node.images.store import InstanceStore
from dicom_node.receiving import web_pull
from dicom_node.receiving.pull import Pulled, Retriever
from dicom_node.settings.node import NodeSettings
from tests.fakes.datasets import STUDY, mr_image
from tests.fakes.stow import TYPE, multipart, part10
from tests.fakes.wado_archive import WadoArchive, running_wado_archive

TOKEN = "token-of-the-node-at-the-archive"
OTHER = f"{STUDY}.8"
IMAGES = [mr_image(number) for number in range(1, 4)]
FILES = [part10(image) for image in IMAGES]
UIDS = [image.SOPInstanceUID for image in IMAGES]


@pytest.fixture(autouse=True)
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[WadoArchive]:
    monkeypatch.setenv("ARCHIVE_TOKEN", TOKEN)
    with running_wado_archive(IMAGES) as running:
        yield running


def settings_for(base: NodeSettings, archive: WadoArchive, **changes: dict[str, Any]) -> NodeSettings:
    values = base.model_dump()
    for section, keys in changes.items():
        values[section] |= keys
    table = {"name": "vna", "kind": "dicomweb", "url": archive.url, "token_env": "ARCHIVE_TOKEN"}
    return NodeSettings(**{**values, "archives": [table]})


@pytest.fixture
def settings(node_settings: NodeSettings, archive: WadoArchive) -> NodeSettings:
    return settings_for(node_settings, archive, delivery={"timeout_s": 2.0})


def pull(settings: NodeSettings, database: Database) -> Pulled:
    return Retriever(settings, database, settings.archives[0]).pull(STUDY, "MR")


def kept(settings: NodeSettings, database: Database) -> dict[str, bytes]:
    """What is indexed, and its bytes on disk."""
    with database.read() as session:
        rows = list(session.scalars(select(Instance)))
    return {row.sop_instance_uid: (settings.data_dir / row.path).read_bytes() for row in rows}


def first(number: int) -> dict[str, bytes]:
    return dict(zip(UIDS[:number], FILES, strict=False))


def check_good(archive: WadoArchive, settings: NodeSettings, database: Database, *, were_here: int) -> None:
    """After the fault everything comes, byte for byte; then nothing more is asked for."""
    done = Pulled(STUDY, images=3, were_here=were_here, received=3 - were_here, missing=0)
    assert pull(settings, database) == done
    assert kept(settings, database) == first(3)
    asked = len(archive.wado_paths())
    assert pull(settings, database) == Pulled(STUDY, images=3, were_here=3, received=0, missing=0)
    assert len(archive.wado_paths()) == asked


def test_good__one_request_for_a_series_as_the_archive_has_it(
    archive: WadoArchive, settings: NodeSettings, database: Database
) -> None:
    check_good(archive, settings, database, were_here=0)
    assert archive.wado_paths() == [f"/dicom-web/studies/{STUDY}/series/{STUDY}.1"]
    accepted = {accept for _, accept, _ in archive.asked if "multipart" in str(accept)}
    assert accepted == {'multipart/related; type="application/dicom"; transfer-syntax=*'}
    assert {login for _, _, login in archive.asked} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize("is_chunked", [True, False], ids=["chunks", "length"])
def test_cut__what_came_whole_is_kept_and_the_rest_comes_next_time(
    archive: WadoArchive, settings: NodeSettings, database: Database, is_chunked: bool
) -> None:
    whole = multipart(FILES)
    archive.body = lambda files: [whole[: -len(FILES[2]) // 2]]
    archive.cuts, archive.length = is_chunked, None if is_chunked else len(whole)
    pulled = pull(settings, database)
    assert (pulled.images, pulled.received, pulled.missing) == (3, 2, 1)
    assert "the answer breaks off" in pulled.problem
    assert kept(settings, database) == first(2)
    archive.body, archive.cuts, archive.length = lambda files: [multipart(files)], False, None
    check_good(archive, settings, database, were_here=2)


@pytest.mark.parametrize("tail", [b"--b", b"--b\r\n", b"--b\r\nContent-Type: application/dicom\r\n\r\nDI"])
def test_no_last_boundary__is_said(
    archive: WadoArchive, settings: NodeSettings, database: Database, tail: bytes
) -> None:
    """The server ends its answer as if it were whole."""
    archive.body = lambda files: [multipart(FILES[:2]).removesuffix(b"--b--\r\n") + tail]
    pulled = pull(settings, database)
    assert pulled.missing >= 1
    assert "the body ends before its last boundary" in pulled.problem
    assert set(kept(settings, database)) <= set(UIDS[:2])
    assert kept(settings, database).items() >= first(1).items()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "refuses the node's login or rights (status 401)"),
        (403, "refuses the node's login or rights (status 403)"),
        (404, "no such series any more"),
        (406, "does not give files as it has them"),
        (500, "it answers with status 500"),
        (503, "it answers with status 503"),
    ],
)
def test_status__is_named_and_nothing_is_kept(
    archive: WadoArchive, settings: NodeSettings, database: Database, status: int, words: str
) -> None:
    archive.status = status
    pulled = pull(settings, database)
    assert (pulled.received, pulled.missing) == (0, 3)
    assert words in pulled.problem
    assert kept(settings, database) == {}
    archive.status = 200
    check_good(archive, settings, database, were_here=0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect__is_named_and_never_followed(
    archive: WadoArchive, settings: NodeSettings, database: Database, status: int
) -> None:
    with running_wado_archive(IMAGES) as other:
        archive.status = status
        archive.headers = {"Content-Type": TYPE, "Location": f"{other.url}/studies/{STUDY}/series/{STUDY}.1"}
        pulled = pull(settings, database)
        assert other.asked == []
    assert (pulled.received, pulled.missing) == (0, 3)
    assert f"it redirects, which is not followed (status {status})" in pulled.problem
    assert kept(settings, database) == {}


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"Content-Type": "text/html"}, "it is no multipart/related of application/dicom"),
        ({"Content-Type": "application/dicom"}, "it is no multipart/related of application/dicom"),
        ({}, "it is no multipart/related of application/dicom"),
        ({"Content-Type": TYPE.replace("dicom", "dicom+json")}, "it is no multipart/related of application/dicom"),
        ({"Content-Type": TYPE.partition("; boundary")[0]}, "the boundary is missing"),
        ({"Content-Type": TYPE + "; boundary=c"}, "it is no multipart/related of application/dicom"),
        ({"Content-Type": TYPE[:-1] + "c"}, "no boundary|ends before its last boundary"),
        ({"Content-Type": TYPE, "Content-Encoding": "gzip"}, "compressed"),
    ],
)
def test_wrong_type__is_named_and_nothing_is_kept(
    archive: WadoArchive, settings: NodeSettings, database: Database, headers: dict[str, str], words: str
) -> None:
    archive.headers = headers
    pulled = pull(settings, database)
    assert (pulled.received, pulled.missing) == (0, 3)
    assert any(word in pulled.problem for word in words.split("|"))
    assert kept(settings, database) == {}


def foreign() -> Dataset:
    image = mr_image(9, study=OTHER)
    image.SeriesInstanceUID = f"{STUDY}.1"
    return image


@pytest.mark.parametrize(
    ("part", "head", "words"),
    [
        (FILES[1], "Content-Type: image/jpeg\r\n", "1 refused with status 0xC000 (no DICOM file that can be read)"),
        (b"<html>", "Content-Type: application/dicom\r\n", "1 refused with status 0xC000"),
        (part10(foreign()), "Content-Type: application/dicom\r\n", "1 refused with status 0xA900"),
        (
            FILES[1],
            "Content-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2.5\r\n",
            "1 refused with status 0xA900",
        ),
    ],
    ids=["type", "page", "another study", "syntax"],
)
def test_wrong_part__is_named_and_the_others_are_kept(
    archive: WadoArchive, settings: NodeSettings, database: Database, part: bytes, head: str, words: str
) -> None:
    rest = multipart([FILES[2]])
    archive.body = lambda files: [
        multipart([FILES[0]]).removesuffix(b"--b--\r\n"),
        multipart([part], head).removesuffix(b"--b--\r\n"),
        rest,
    ]
    pulled = pull(settings, database)
    assert (pulled.received, pulled.missing) == (2, 1)
    assert words in pulled.problem
    assert kept(settings, database) == {UIDS[0]: FILES[0], UIDS[2]: FILES[2]}
    archive.body = lambda files: [multipart(files)]
    check_good(archive, settings, database, were_here=2)


@pytest.mark.parametrize("limit", [{"max_object_mb": 1}, {"max_memory_mb": 1}])
def test_huge_part__is_refused_by_name_and_never_held(
    node_settings: NodeSettings, database: Database, limit: dict[str, int]
) -> None:
    huge = mr_image(2)
    size = 200_000_000

    def body(files: list[bytes]) -> Iterator[bytes]:
        yield multipart([FILES[0]]).removesuffix(b"--b--\r\n")
        yield b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10(huge)
        for _ in range(size // 1_000_000):
            yield bytes(1_000_000)
        yield b"\r\n" + multipart([FILES[2]])

    with running_wado_archive(IMAGES) as archive:
        settings = settings_for(node_settings, archive, listener=limit)
        archive.body = body
        tracemalloc.start()
        pulled = pull(settings, database)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert (pulled.received, pulled.missing) == (2, 1)
    assert "1 refused with status 0xA700 (over max_object_mb" in pulled.problem
    assert UIDS[1] in pulled.problem
    assert kept(settings, database) == {UIDS[0]: FILES[0], UIDS[2]: FILES[2]}
    assert peak < 30_000_000
    with database.read() as session:
        (alert,) = open_alerts(session)
    assert (alert.kind, alert.subject) == ("refused", "vna: an object is too large")


def forever(block: bytes) -> Callable[[list[bytes]], Iterable[bytes]]:
    def body(files: list[bytes]) -> Iterator[bytes]:
        yield multipart([FILES[0]]).removesuffix(b"--b--\r\n")
        # Far more than any limit here, and yet a test without one ends.
        for _ in range(200):
            yield block

    return body


EMPTY = b"--b\r\nContent-Type: text/plain\r\n\r\n\r\n"


@pytest.mark.parametrize(
    ("block", "study", "words", "received"),
    [
        (bytes(1_000_000), {"max_gb": 0.02}, "20000000 bytes", 0),
        (
            b"--b\r\nContent-Type: application/dicom\r\n\r\n" + bytes(500_000) + b"\r\n",
            {"max_gb": 0.02},
            "20000000 bytes",
            1,
        ),
        (EMPTY * 100, {"max_images": 1000}, "too many parts", 1),
    ],
    ids=["one part", "parts", "empty parts"],
)
def test_endless__has_an_end(
    node_settings: NodeSettings, database: Database, block: bytes, study: dict[str, Any], words: str, received: int
) -> None:
    with running_wado_archive(IMAGES) as archive:
        settings = settings_for(node_settings, archive, study=study)
        archive.body = forever(block)
        began = time.monotonic()
        pulled = pull(settings, database)
        assert time.monotonic() - began < 30
        assert (pulled.received, pulled.missing) == (received, 3 - received)
        assert words in pulled.problem
        assert kept(settings, database) == first(received)


def test_silence__is_given_up(
    archive: WadoArchive, settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = threading.Event()

    def body(files: list[bytes]) -> Iterator[bytes]:
        yield multipart(FILES[:2]).removesuffix(b"--b--\r\n") + b"--b\r\n"
        silent.wait(20)

    monkeypatch.setattr(web_pull, "_SILENCE_S", 0.5)
    archive.body = body
    began = time.monotonic()
    pulled = pull(settings, database)
    silent.set()
    assert time.monotonic() - began < 10
    assert (pulled.received, pulled.missing) == (2, 1)
    assert "the answer breaks off" in pulled.problem


def test_trickle__a_series_has_a_deadline(
    archive: WadoArchive, settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def body(files: list[bytes]) -> Iterator[bytes]:
        yield multipart(FILES[:2]).removesuffix(b"--b--\r\n") + b"--b\r\n"
        yield b"Content-Type: application/dicom\r\n\r\n"
        for _ in range(400):
            time.sleep(0.05)
            yield b"-"

    monkeypatch.setattr(web_pull, "_LONGEST_S", 0.5)
    archive.body = body
    began = time.monotonic()
    pulled = pull(settings, database)
    assert time.monotonic() - began < 10
    assert (pulled.received, pulled.missing) == (2, 1)
    assert "the answer takes too long" in pulled.problem


def test_no_room__asks_for_nothing(
    archive: WadoArchive, settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InstanceStore, "why_no_room", lambda store: "3 GB are free, 5 must remain")
    pulled = pull(settings, database)
    assert pulled.problem == "no image can be kept: 3 GB are free, 5 must remain"
    assert archive.wado_paths() == []


def test_one_series_fails__the_others_come(node_settings: NodeSettings, database: Database) -> None:
    second = mr_image(5, series=f"{STUDY}.2")
    with running_wado_archive([*IMAGES, second]) as archive:
        settings = settings_for(node_settings, archive)
        archive.body = lambda files: [multipart(files)] if len(files) == 1 else [b"nonsense" * 1000]
        pulled = pull(settings, database)
    assert (pulled.images, pulled.received, pulled.missing) == (4, 1, 3)
    assert set(kept(settings, database)) == {second.SOPInstanceUID}


@pytest.mark.parametrize("page", [1, 2, 3])
def test_search__goes_on_where_the_archive_stops(
    archive: WadoArchive, settings: NodeSettings, database: Database, page: int
) -> None:
    archive.page = page
    check_good(archive, settings, database, were_here=0)


def test_search__an_archive_that_begins_again_is_named(
    archive: WadoArchive, settings: NodeSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting too few would take an incomplete study for complete."""
    monkeypatch.setattr(qido, "_PAGE", 2)
    archive.goes_on = False
    with pytest.raises(DeliveryError, match="does not go on where its answer"):
        pull(settings, database)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"", "login or rights"),
        (404, b"", "no such service"),
        (500, b"", "status 500"),
        (302, b"", "not followed"),
        (200, b"<html>", "no JSON"),
        (200, b'"text"', "no list"),
        (200, b"[" * 100_000, "cannot be read|no JSON"),
        (200, b" " * 5_000_000, "more than 4000000 bytes"),
        (200, b'[{"0020000E": {"Value": ["../../secret"]}}]', "something that is no UID"),
    ],
)
def test_search__that_fails_is_named(
    archive: WadoArchive, settings: NodeSettings, database: Database, status: int, body: bytes, words: str
) -> None:
    archive.finds = status, body
    with pytest.raises(DeliveryError) as raised:
        pull(settings, database)
    assert any(word in str(raised.value) for word in words.split("|")), str(raised.value)
    assert TOKEN not in str(raised.value)
    assert archive.wado_paths() == []


def test_search__no_patient_data_and_no_token_in_the_log(
    archive: WadoArchive, settings: NodeSettings, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    archive.status = 500
    Retriever(settings, database, settings.archives[0]).find_studies({"PatientID": "SECRET-ID"})
    pull(settings, database)
    archive.finds = 500, b"SECRET"
    with pytest.raises(DeliveryError) as raised:
        Retriever(settings, database, settings.archives[0]).find_studies({"PatientID": "SECRET-ID"})
    said = "".join((*capfd.readouterr(), str(raised.value)))
    assert "SECRET" not in said
    assert TOKEN not in said
