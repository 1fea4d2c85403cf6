from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicom_node.health.readiness import disk
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from dicom_node.system.disk import FEWEST_NAMES, Room, free_room


def test_room__of_a_folder(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    room = free_room(tmp_path)
    assert room.size == pytest.approx(found.f_bavail * found.f_frsize, rel=0.1)
    assert room.names is None or room.names <= found.f_files


@pytest.mark.parametrize(
    ("room", "lacks"),
    [
        (Room(2_000_000_000, None), ""),
        (Room(999_999_999, None), "1.0 GB are free, 1 GB are the reserve"),
        (Room(2_000_000_000, FEWEST_NAMES), ""),
        (Room(2_000_000_000, 5), "the file system has room for 5 more files (inodes), 1000 are the reserve"),
    ],
)
def test_lack__of_bytes_or_of_names(room: Room, lacks: str) -> None:
    assert room.lack(1e9) == lacks


class Statistics:
    """What statvfs says of a file system with much space and few inodes."""

    f_bavail, f_frsize, f_files, f_favail = 10**9, 4096, 65536, 3


class Btrfs(Statistics):
    """A file system that makes inodes as they are needed says zero."""

    f_files, f_favail = 0, 0


@pytest.mark.parametrize(("statistics", "is_full"), [(Statistics, True), (Btrfs, False)])
def test_names__a_file_system_without_inodes_is_full(
    node_settings: NodeSettings, monkeypatch: pytest.MonkeyPatch, statistics: type[Statistics], is_full: bool
) -> None:
    store = InstanceStore(None, node_settings.data_dir)  # type: ignore[arg-type]
    assert store.has_room()
    assert disk(node_settings).is_well
    monkeypatch.setattr("dicom_node.system.disk.os.statvfs", lambda folder: statistics)
    assert store.has_room() is not is_full
    check = disk(node_settings)
    assert check.is_well is not is_full
    assert ("3 more files" in check.seen) is is_full
