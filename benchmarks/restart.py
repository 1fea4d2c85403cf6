"""How long the listener takes from its start until it serves, with many instances stored and indexed.

    python -m benchmarks.restart --instances 100000

It makes a data folder of small files with their index rows and starts ``dicom-node listen`` on it several times. It prints the
seconds until the line that says it listens, the processor time until then, and how long the reconciliation of disk and index
takes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import insert

from dicom_node.database.connection import Database, prepare_database
from dicom_node.database.tables import Instance
from dicom_node.images.reconcile import reconcile
from dicom_node.images.store import InstanceStore
from dicom_node.settings.reading import load_settings
from dicom_node.system.clock import utc_now

_PER_SERIES = 20
_SERIES_PER_STUDY = 6
_BYTES = 512


def fill(database: Database, data_dir: Path, count: int) -> None:
    """Write files of a few bytes and their rows, with as many in a series and a study as in an MR examination."""
    now = utc_now()
    rows = []
    for number in range(count):
        series = f"1.2.3.{number // (_PER_SERIES * _SERIES_PER_STUDY)}", f"1.2.4.{number // _PER_SERIES}"
        name = "/".join(("instances", *series, f"1.2.5.{number}-0123456789abcdef.dcm"))
        path = data_dir / name
        if number % _PER_SERIES == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * _BYTES)
        rows.append(
            {
                "sop_instance_uid": f"1.2.5.{number}", "version": 1, "is_current": True, "study_uid": series[0],
                "series_uid": series[1], "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1", "sha256": f"{number:064x}", "path": name,
                "size": _BYTES, "received_at": now, "calling_ae": "TEST", "calling_address": "127.0.0.1",
                "is_own_result": False,
            }
        )  # fmt: skip
    with database.write() as session:
        session.execute(insert(Instance), rows)


def start_once(config: Path) -> tuple[float, float]:
    """Seconds, and seconds of processor time, until the listener listens."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "dicom_node.cli", "listen", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"listening"' in line:
                break
        seconds = time.perf_counter() - began
        process.kill()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(folder: Path, instances: int, starts: int = 3) -> list[float]:
    """Seconds from start to serving, several times, in an empty folder."""
    config = folder / "node.toml"
    config.write_text("[listener]\nport = 11999\n[retention]\ndisk_reserve_gb = 0\n")
    settings = load_settings(config)
    settings.data_dir.mkdir()
    database = prepare_database(settings.database)
    store = InstanceStore(database, settings.data_dir)
    fill(database, settings.data_dir, instances)
    began, used = time.perf_counter(), time.process_time()
    reconcile(database, store)
    print(
        f"reconcile  {time.perf_counter() - began:6.2f} s  {time.process_time() - used:6.2f} s of processor time  "
        f"({instances} instances)"
    )
    database.close()
    return [_start_and_tell(config) for _ in range(starts)]


def _start_and_tell(config: Path) -> float:
    seconds, processor = start_once(config)
    print(f"start      {seconds:6.2f} s  {processor:6.2f} s of processor time", flush=True)
    return seconds


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=100_000)
    parser.add_argument("--starts", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="restart-") as name:
        measure(Path(name), asked.instances, asked.starts)


if __name__ == "__main__":
    main()
