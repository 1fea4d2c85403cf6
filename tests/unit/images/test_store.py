from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from dicom_node.alerts.record import open_alerts
from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, Instance, StudyRow
from dicom_node.images import store as store_module
from dicom_node.images.incoming import CANNOT_UNDERSTAND, MISMATCH, OUT_OF_RESOURCES, SUCCESS
from dicom_node.images.reconcile import reconcile
from dicom_node.images.records import count_instances, inputs_of
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.log import configure_logging
from dicom_node.upkeep import verify
from spineone_core.imaging import inflation
from tests.fakes.datasets import STUDY, encode, incoming, mr_image, save

pytestmark = pytest.mark.both_databases


@pytest.fixture
def store(database: Database, node_settings: NodeSettings) -> InstanceStore:
    return InstanceStore(database, node_settings.data_dir)


def rows(database: Database) -> list[Instance]:
    with database.read() as session:
        return list(session.scalars(select(Instance).order_by(Instance.id)))


def alerts(database: Database) -> list[Alert]:
    with database.read() as session:
        return list(open_alerts(session))


def generation(database: Database) -> tuple[str, int]:
    with database.read() as session:
        study = session.get(StudyRow, STUDY)
        assert study is not None
        return study.state, study.generation


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_receive__the_file_is_readable_and_indexed(store: InstanceStore, database: Database) -> None:
    dataset = mr_image()
    assert store.receive(incoming(dataset)) == SUCCESS
    (row,) = rows(database)
    stored = pydicom.dcmread(store.data_dir / row.path)
    assert stored == dataset
    assert (row.sop_instance_uid, row.study_uid, row.is_current) == (dataset.SOPInstanceUID, STUDY, True)
    assert generation(database) == ("receiving", 1)
    assert not files(store.data_dir / "spool")


def test_receive__files_have_no_right_to_be_executed(store: InstanceStore, database: Database) -> None:
    store.receive(incoming(mr_image()))
    (row,) = rows(database)
    assert not (store.data_dir / row.path).stat().st_mode & 0o111


def test_receive__the_same_bytes_again_change_nothing(store: InstanceStore, database: Database) -> None:
    store.receive(incoming(mr_image()))
    with database.write() as session:
        study = session.get(StudyRow, STUDY)
        assert study is not None
        study.state = "complete"
    assert store.receive(incoming(mr_image())) == SUCCESS
    assert len(rows(database)) == 1
    assert generation(database) == ("complete", 1)


def test_receive__a_corrected_header_becomes_the_current_version(store: InstanceStore, database: Database) -> None:
    store.receive(incoming(mr_image()))
    with database.write() as session:
        study = session.get(StudyRow, STUDY)
        assert study is not None
        study.state = "complete"
    assert store.receive(incoming(mr_image(name="CORRECTED^NAME"))) == SUCCESS
    old, new = rows(database)
    assert (old.is_current, new.is_current, new.version) == (False, True, 2)
    assert generation(database) == ("receiving", 2)
    with database.read() as session:
        (used,) = inputs_of(session, STUDY)
    assert pydicom.dcmread(store.data_dir / used.path).PatientName == "CORRECTED^NAME"


def test_receive__the_first_bytes_again_take_a_correction_back(store: InstanceStore, database: Database) -> None:
    """What was received last is what counts, however often it came before."""
    first, corrected = incoming(mr_image()), incoming(mr_image(name="CORRECTED^NAME"))
    for sent in (first, corrected, first, corrected, first):
        with database.write() as session:
            study = session.get(StudyRow, STUDY)
            if study is not None:
                study.state = "complete"
        assert store.receive(sent) == SUCCESS
        with database.read() as session:
            (used,) = inputs_of(session, STUDY)
            assert (store.data_dir / used.path).read_bytes().endswith(sent.data)
            study = session.get_one(StudyRow, STUDY)
            assert (study.stored_images, study.files) == ((1, 1) if len(rows(database)) == 1 else (2, 2))
            assert count_instances(session) == 1
    assert generation(database) == ("receiving", 5)
    assert [(row.version, row.is_current) for row in rows(database)] == [(4, False), (5, True)]
    assert store.receive(first) == SUCCESS
    assert len(rows(database)) == 2
    assert generation(database) == ("receiving", 5)
    assert not alerts(database)


def test_receive__other_pixels_go_to_quarantine_with_an_alert(store: InstanceStore, database: Database) -> None:
    store.receive(incoming(mr_image()))
    assert store.receive(incoming(mr_image(fill=8))) == SUCCESS
    assert len(rows(database)) == 1
    (alert,) = alerts(database)
    assert (alert.kind, alert.subject) == ("quarantine", mr_image().SOPInstanceUID)
    assert len(files(store.data_dir / "quarantine")) == 1


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless])
def test_receive__the_same_pixels_in_another_transfer_syntax_are_a_version(
    store: InstanceStore, database: Database, syntax: str
) -> None:
    store.receive(incoming(mr_image()))
    dataset = mr_image()
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    data = encode(dataset, implicit=syntax == ImplicitVRLittleEndian)
    assert store.receive(incoming(dataset, transfer_syntax_uid=syntax, data=data)) == SUCCESS
    assert [row.is_current for row in rows(database)] == [False, True]
    assert not alerts(database)
    assert not files(store.data_dir / "spool")


def test_receive__the_same_uid_in_another_study_is_a_conflict(store: InstanceStore, database: Database) -> None:
    store.receive(incoming(mr_image()))
    other = mr_image()
    other.StudyInstanceUID = "1.2.3"
    assert store.receive(incoming(other)) == SUCCESS
    assert len(rows(database)) == 1
    assert alerts(database)[0].kind == "quarantine"


@pytest.mark.parametrize(
    "uid", ["../../x", "/etc/passwd", "1.2\0.3", "1." + "2" * 63, "", "1..2", "1.2.", "1.2.3/../4", "é"]
)
def test_receive__a_malformed_uid_never_becomes_a_path(store: InstanceStore, uid: str) -> None:
    dataset = mr_image()
    before = set(files(store.data_dir.parent))
    assert store.receive(incoming(dataset, sop_instance_uid=uid)) == MISMATCH
    tag = b"\x20\x00\x0d\x00UI" + len(STUDY).to_bytes(2, "little")
    evil = b"../" * (len(STUDY) // 3) + b"x" * (len(STUDY) % 3)
    data = encode(dataset).replace(tag + STUDY.encode(), tag + evil)
    assert evil in data
    assert store.receive(incoming(dataset, data=data)) in (MISMATCH, CANNOT_UNDERSTAND)
    new = set(files(store.data_dir.parent)) - before
    aside = {store.data_dir / "quarantine", store.data_dir / "quarantine-notes"}
    assert all(path.parent in aside or "node.db" in path.name for path in new)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_receive__a_uid_of_65_characters_is_refused(store: InstanceStore, database: Database, keyword: str) -> None:
    dataset = mr_image()
    setattr(dataset, keyword, "1." + "2" * 63)
    assert store.receive(incoming(dataset)) in (MISMATCH, CANNOT_UNDERSTAND)
    assert rows(database) == []
    assert len(files(store.data_dir / "quarantine")) == 1


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_receive__a_missing_uid_is_refused_and_kept_in_quarantine(
    store: InstanceStore, database: Database, keyword: str
) -> None:
    request = incoming(mr_image())
    dataset = mr_image()
    delattr(dataset, keyword)
    changed = incoming(mr_image(), data=encode(dataset))
    assert store.receive(changed) == CANNOT_UNDERSTAND
    assert rows(database) == []
    assert alerts(database)[0].subject == request.sop_instance_uid
    assert f"{keyword} is missing" in alerts(database)[0].detail
    assert len(files(store.data_dir / "quarantine")) == 1


def test_receive__a_name_sent_as_a_uid_is_not_repeated(
    store: InstanceStore, database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging("debug", process="test", stream=sys.stdout)
    assert store.receive(incoming(mr_image(), sop_instance_uid="DOE^JANE")) == MISMATCH
    assert store.refuse_too_large("DOE^JANE", "TEST") == OUT_OF_RESOURCES
    assert "instance_refused" in (written := capfd.readouterr().out)
    assert "DOE" not in written
    assert "DOE" not in "".join(f"{alert.subject} {alert.detail}" for alert in alerts(database))


@pytest.mark.parametrize("change", [{"sop_instance_uid": "1.2.3"}, {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2"}])
def test_receive__command_and_data_set_must_agree(store: InstanceStore, change: dict[str, Any]) -> None:
    assert store.receive(incoming(mr_image(), **change)) == MISMATCH


@pytest.mark.parametrize("cut", [1, 100, 136, 149, 200])
def test_receive__truncated_data_are_refused_and_kept_in_quarantine(
    store: InstanceStore, database: Database, cut: int
) -> None:
    request = incoming(mr_image())
    assert store.receive(incoming(mr_image(), data=request.data[:-cut])) == CANNOT_UNDERSTAND
    assert "truncated" in alerts(database)[0].detail
    assert len(files(store.data_dir / "quarantine")) == 1


@pytest.mark.parametrize("element", [b"\x10\x00\x20\x00LO", b"\x28\x00\x10\x00US"], ids=["PatientID", "Rows"])
def test_receive__an_unknown_vr_is_refused_and_kept_in_quarantine(
    store: InstanceStore, database: Database, element: bytes
) -> None:
    """The unknown VR may be in any element that receiving looks at."""
    request = incoming(mr_image())
    broken = request.data.replace(element, element[:4] + b"ZZ")
    assert store.receive(incoming(mr_image(), data=broken)) == CANNOT_UNDERSTAND
    assert "cannot be parsed" in alerts(database)[0].detail
    assert len(files(store.data_dir / "quarantine")) == 1


def test_receive__an_encapsulated_object_cut_short_is_refused(store: InstanceStore) -> None:
    dataset = mr_image()
    dataset.compress(RLELossless, generate_instance_uid=False)
    request = incoming(dataset, transfer_syntax_uid=RLELossless)
    assert (
        store.receive(incoming(dataset, transfer_syntax_uid=RLELossless, data=request.data[:-8])) == CANNOT_UNDERSTAND
    )
    assert store.receive(request) == SUCCESS


def test_receive__a_non_image_object_is_kept(store: InstanceStore, database: Database) -> None:
    dataset = mr_image()
    del dataset.PixelData
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    assert store.receive(incoming(dataset)) == SUCCESS
    assert len(rows(database)) == 1


def test_receive__a_deflate_bomb_is_refused(
    store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflation, "INFLATE_ALWAYS", 2**20)
    dataset = mr_image()
    dataset.PixelData = b"\0" * (20 * 2**20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = packer.compress(encode(dataset)) + packer.flush()
    status = store.receive(incoming(dataset, transfer_syntax_uid=DeflatedExplicitVRLittleEndian, data=data))
    assert status == CANNOT_UNDERSTAND
    assert "out of proportion" in alerts(database)[0].detail


def test_receive__deeply_nested_sequences_are_refused(store: InstanceStore) -> None:
    def element(tag: bytes) -> bytes:
        return tag + b"SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"

    data = encode(mr_image())
    bomb = element(b"\x08\x00\x15\x11") * 3000
    status = store.receive(incoming(mr_image(), data=bomb + data))
    assert status == CANNOT_UNDERSTAND


def test_receive__a_full_disk_leaves_nothing_behind(
    store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    assert store.receive(incoming(mr_image())) == OUT_OF_RESOURCES
    monkeypatch.undo()
    assert rows(database) == []
    assert not files(store.data_dir / "spool")


def test_receive__under_the_disk_reserve_nothing_is_accepted(database: Database, node_settings: NodeSettings) -> None:
    store = InstanceStore(database, node_settings.data_dir, reserve_bytes=2**62)
    assert store.receive(incoming(mr_image())) == OUT_OF_RESOURCES
    assert alerts(database)[0].kind == "disk_reserve"


def test_receive__no_success_without_an_index_row(
    store: InstanceStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*args: object) -> None:
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    monkeypatch.setattr(store_module.studies, "image_arrived", locked)
    assert store.receive(incoming(mr_image())) == OUT_OF_RESOURCES
    monkeypatch.undo()
    assert rows(database) == []
    assert store.receive(incoming(mr_image())) == SUCCESS


def test_receive__an_own_result_is_kept_but_opens_no_study(store: InstanceStore, database: Database) -> None:
    from dicom_node.dicom.identifiers import MANUFACTURER

    dataset = mr_image()
    del dataset.PixelData
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.34"
    dataset.Manufacturer = MANUFACTURER
    assert store.receive(incoming(dataset)) == SUCCESS
    assert rows(database)[0].is_own_result
    with database.read() as session:
        assert session.get(StudyRow, STUDY) is None
        assert inputs_of(session, STUDY) == []


def test_reconcile__a_file_without_a_row_is_indexed(store: InstanceStore, database: Database) -> None:
    store.receive(incoming(mr_image()))
    (row,) = rows(database)
    with database.write() as session:
        session.delete(session.get(Instance, row.id))
    (store.data_dir / "spool" / "x.tmp").write_bytes(b"half")
    reconcile(database, store)
    (again,) = rows(database)
    assert (again.path, again.sha256) == (row.path, row.sha256)
    assert not files(store.data_dir / "spool")


def test_reconcile__a_row_without_its_file_is_an_alert_until_it_comes_again(
    store: InstanceStore, database: Database
) -> None:
    store.receive(incoming(mr_image()))
    (store.data_dir / rows(database)[0].path).unlink()
    reconcile(database, store)
    assert [alert.kind for alert in alerts(database)] == ["missing_file"]
    assert store.receive(incoming(mr_image())) == SUCCESS
    assert alerts(database) == []
    assert (store.data_dir / rows(database)[0].path).is_file()


def test_reconcile__garbage_goes_to_quarantine(store: InstanceStore, database: Database) -> None:
    stray = store.data_dir / "instances" / "1.2" / "stray.dcm"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"garbage")
    reconcile(database, store)
    assert not stray.exists()
    assert alerts(database)[0].kind == "quarantine"


def test_verify__finds_changed_and_missing_files(store: InstanceStore, database: Database) -> None:
    for number in (1, 2, 3):
        store.receive(incoming(mr_image(number)))
    first, second, _ = rows(database)
    (store.data_dir / first.path).unlink()
    (store.data_dir / second.path).write_bytes(b"changed")
    found = {uid: what for uid, _, what in verify.verify_files(database, store.data_dir)}
    assert found == {
        first.sop_instance_uid: "is missing",
        second.sop_instance_uid: "has other bytes than the index says",
    }


def test_save_and_read__helper_round_trip(tmp_path: Path) -> None:
    dataset: Dataset = mr_image()
    assert np.all(pydicom.dcmread(save(dataset, tmp_path / "a.dcm")).pixel_array == 7)


def cut_where_an_element_ends(path: Path) -> None:
    """The file without its last element, the pixels: pydicom reads it without an error."""
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path, enforce_file_format=True)
    assert pydicom.dcmread(path).SOPInstanceUID


def test_reconcile__a_file_cut_where_an_element_ends_is_reported(
    store: InstanceStore, database: Database, node_settings: NodeSettings
) -> None:
    store.receive(incoming(mr_image()))
    path = node_settings.data_dir / rows(database)[0].path
    whole = path.read_bytes()
    cut_where_an_element_ends(path)
    reconcile(database, InstanceStore(database, node_settings.data_dir))
    (alert,) = alerts(database)
    assert (alert.kind, "size" in alert.detail) == ("missing_file", True)
    # Its sender sends it again: it is intact, and analysed again.
    assert store.receive(incoming(mr_image())) == SUCCESS
    assert path.read_bytes() == whole
    assert alerts(database) == []


def test_receive__a_stored_file_of_the_same_size_with_other_bytes_is_no_duplicate(
    store: InstanceStore, database: Database, node_settings: NodeSettings
) -> None:
    store.receive(incoming(mr_image()))
    path = node_settings.data_dir / rows(database)[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert store.receive(incoming(mr_image())) == SUCCESS
    assert path.read_bytes() == whole


def test_reconcile__a_file_without_row_that_was_cut_goes_to_quarantine(
    store: InstanceStore, database: Database, node_settings: NodeSettings
) -> None:
    store.receive(incoming(mr_image()))
    path = node_settings.data_dir / rows(database)[0].path
    with database.write() as session:
        session.delete(session.get(Instance, 1))
    cut_where_an_element_ends(path)
    reconcile(database, InstanceStore(database, node_settings.data_dir))
    assert rows(database) == []
    (alert,) = alerts(database)
    assert (alert.kind, "other bytes than its name says" in alert.detail) == ("quarantine", True)
    assert len(list((node_settings.data_dir / "quarantine").iterdir())) == 1
