"""kill -9 at every step between the last byte received and the index row committed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from sqlalchemy import select

from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, StudyRow
from dicom_node.images.incoming import SUCCESS
from dicom_node.images.reconcile import reconcile
from dicom_node.images.store import InstanceStore
from dicom_node.settings.node import NodeSettings
from tests.fakes.datasets import STUDY, incoming, mr_image

# Receives images and says which were acknowledged, until the n-th call of a step kills the process.
CHILD = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.orm import Session
from dicom_node.images import store as instances
from dicom_node.database.connection import open_database
from tests.fakes.datasets import incoming, mr_image

url, data_dir, step, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def deadly(function, after):
    def run(*args, **kwargs):
        global count
        count -= 1
        if count == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        value = function(*args, **kwargs)
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return value
    return run

place, after = step.split("-")
if place == "commit":
    event.listen(Session, f"{after}_commit", deadly(lambda session: None, False))
else:
    owner, name = {
        "fsync": (os, "fsync"), "replace": (Path, "replace"), "touch": (instances.studies, "image_arrived")
    }[place]
    setattr(owner, name, deadly(getattr(owner, name), after == "after"))
store = instances.InstanceStore(open_database(url), data_dir)
for number in range(1, 6):
    assert store.receive(incoming(mr_image(number))) == 0
    os.write(1, f"ack {number}\\n".encode())
"""


@pytest.mark.parametrize(
    ("step", "count"),
    [
        ("fsync-before", 1),
        ("fsync-after", 4),
        ("fsync-before", 9),
        ("replace-before", 3),
        ("replace-after", 3),
        ("commit-before", 2),
        ("touch-after", 4),
        ("commit-after", 3),
    ],
)
def test_kill__what_was_acknowledged_is_there_and_the_rest_can_come_again(
    database: Database, node_settings: NodeSettings, step: str, count: int, tmp_path: Path
) -> None:
    said = tmp_path / "acknowledged"
    with said.open("w") as file:
        child = subprocess.run(
            [sys.executable, "-c", CHILD, node_settings.database, str(node_settings.data_dir), step, str(count)],
            stdout=file,
            cwd=Path(__file__).parents[2],
            check=False,
        )
    assert child.returncode == -signal.SIGKILL
    acknowledged = [int(line.split()[1]) for line in said.read_text().splitlines() if line.startswith("ack ")]

    store = InstanceStore(database, node_settings.data_dir)
    reconcile(database, store)
    with database.read() as session:
        rows = {row.sop_instance_uid: row for row in session.scalars(select(Instance))}
    for number in acknowledged:
        image = mr_image(number)
        assert pydicom.dcmread(node_settings.data_dir / rows[image.SOPInstanceUID].path) == image
    on_disk = set((node_settings.data_dir / "instances").rglob("*.dcm"))
    assert on_disk == {node_settings.data_dir / row.path for row in rows.values()}
    assert not os.listdir(node_settings.data_dir / "spool")
    with database.read() as session:
        assert (session.get(StudyRow, STUDY) is not None) == bool(rows)

    for number in range(1, 6):
        assert store.receive(incoming(mr_image(number))) == SUCCESS
    with database.read() as session:
        assert len(session.scalars(select(Instance)).all()) == 5
