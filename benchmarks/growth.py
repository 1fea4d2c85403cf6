"""What the node's frequent questions to its database cost as the index grows.

    python -m benchmarks.growth --studies 1000 8000 20000

It fills a database with finished studies of 50 instances each, in bulk, and measures at each size: the status, the status
page, the metrics, closing studies, claiming a job, finding what to send and what may be deleted, and the index row of one more
image. It prints the median processor time of each in milliseconds, and the ratio of the largest size to the smallest: a
question that costs the same at every size has a ratio of about one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import insert

from dicom_node.analysis import jobs
from dicom_node.analysis.completion import complete_due
from dicom_node.database.connection import Database, prepare_database
from dicom_node.database.tables import Instance, Job, JobEvent, OutboxRow, ResultFile, ResultRow, StudyRow
from dicom_node.delivery import outbox
from dicom_node.health import overview
from dicom_node.health.metrics import NodeCollector
from dicom_node.images import studies
from dicom_node.images.records import current_instance
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.system.clock import utc_now
from dicom_node.upkeep.retention import Retention
from dicom_node.web.status_page import render_page
from spineone_core.anatomy import READING_ORDER

PER_STUDY = 50
_EVENTS = (("claimed", "waiting", "running"), ("succeeded", "running", "done"))
_FINDINGS = json.dumps(
    {
        "findings": [
            {"structure": mark.structure.value, "level": mark.level, "class": "normal", "decided": True}
            for mark in READING_ORDER
        ]
    }
)


def seed(database: Database, first: int, last: int) -> None:
    """Add the finished studies with these numbers, each with its job, result, and two files sent to one destination."""
    now = utc_now() - timedelta(days=1)
    for chunk in _batches(first, last):
        rows: dict[Any, list[dict[str, Any]]] = {}
        for number in chunk:
            for table, row in _rows(number, now + timedelta(seconds=number)):
                rows.setdefault(table, []).append(row)
        with database.write() as session:
            for table, values in rows.items():
                session.execute(insert(table), values)


def _batches(first: int, last: int) -> Iterator[range]:
    return (range(start, min(start + 500, last)) for start in range(first, last, 500))


def _rows(number: int, at: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    study = f"1.2.3.{number}"
    yield (
        StudyRow,
        {
            "study_uid": study, "state": "complete", "generation": 1, "first_received_at": at, "last_received_at": at,
            "stored_images": PER_STUDY, "stored_bytes": PER_STUDY * 500_000, "files": PER_STUDY,
        },
    )  # fmt: skip
    for image in range(PER_STUDY):
        uid = f"1.2.5.{number}.{image}"
        yield (
            Instance,
            {
                "sop_instance_uid": uid, "version": 1, "is_current": True, "study_uid": study, "series_uid": f"1.2.4.{number}",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.4", "transfer_syntax_uid": "1.2.840.10008.1.2.1",
                "sha256": f"{number * PER_STUDY + image:064x}", "path": f"instances/{study}/1.2.4.{number}/{uid}.dcm",
                "size": 500_000, "received_at": at, "calling_ae": "TEST", "calling_address": "127.0.0.1", "is_own_result": False,
            },
        )  # fmt: skip
    yield (
        ResultRow,
        {
            "id": number, "study_uid": study, "generation": 1, "input_hash": f"{number:064x}", "model_digest": "a" * 64,
            "settings_digest": "b" * 64, "status": "analysed", "findings": _FINDINGS, "created_at": at,
        },
    )  # fmt: skip
    yield (
        Job,
        {
            "id": number, "study_uid": study, "generation": 1, "state": "done", "priority": 0, "attempts": 1, "not_before": at,
            "created_at": at, "finished_at": at, "heartbeat": 1, "result_id": number, "outcome": "analysed", "reason": "analysed",
        },
    )  # fmt: skip
    for event, before, after in _EVENTS:
        yield (
            JobEvent,
            {"job_id": number, "at": at, "event": event, "from_state": before, "to_state": after, "detail": ""},
        )
    for order, role in enumerate(("report", "overlay")):
        file = 2 * number + order
        yield (
            ResultFile,
            {
                "id": file, "result_id": number, "role": role, "path": f"results/{file}.dcm", "sha256": f"{file:064x}",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.34", "sop_instance_uid": f"2.25.{file}",
            },
        )  # fmt: skip
        yield (
            OutboxRow,
            {
                "result_file_id": file, "study_uid": study, "destination": "pacs", "state": "sent", "attempts": 1,
                "next_attempt_at": at, "created_at": at, "sent_at": at, "last_message": "", "is_bound": True,
                "proof": "committed", "losses": 0, "proof_attempts": 0,
            },
        )  # fmt: skip


def questions(settings: NodeSettings, database: Database) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(settings, database))
    retention = Retention(settings, database)
    images = itertools.count()

    def status() -> None:
        with database.read() as session:
            overview.status(session, settings)

    def completion() -> None:
        with database.write() as session:
            complete_due(session, now=utc_now(), quiet_seconds=604800, max_wait_seconds=604800)

    def claim() -> None:
        with database.write() as session:
            jobs.claim(session, "benchmark", now=utc_now())

    def to_send() -> None:
        with database.read() as session:
            outbox.due(session, "pacs", now=utc_now())

    def image() -> None:
        """What the listener asks and writes for one image that nobody has seen, but for its file."""
        uid = f"1.2.6.{time.time_ns()}.{next(images)}"
        with database.read() as session:
            current_instance(session, uid)
        with database.write() as session:
            _, row = next(itertools.islice(_rows(0, utc_now()), 1, None))
            row |= {"sop_instance_uid": uid, "study_uid": "1.2.7", "path": f"instances/{uid}", "sha256": uid}
            session.add(Instance(**row))
            study = studies.image_arrived(session, "1.2.7", utc_now())
            study.stored_images += 1

    return {
        "dicom-node status": status,
        "status page": lambda: render_page(settings, database),
        "metrics": lambda: generate_latest(registry),
        "closing studies": completion,
        "claiming a job": claim,
        "what to send": to_send,
        "what is old enough to be deleted": lambda: retention.older_than(365),
        "index row of an image": image,
    }


def measure(ask: Callable[[], Any], repeats: int) -> float:
    """Median processor time in milliseconds, after one call to warm up."""
    ask()
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        ask()
        spent.append((time.process_time() - began) * 1000)
    return statistics.median(spent)


def run(folder: Path, sizes: list[int], repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each question at each size, which must rise."""
    config = folder / "node.toml"
    config.write_text('[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n')
    settings = load_settings(config)
    settings.data_dir.mkdir()
    database = prepare_database(settings.database)
    figures: dict[str, list[float]] = {}
    filled = 1
    for size in sizes:
        seed(database, filled, size + 1)
        filled = size + 1
        for name, ask in questions(settings, database).items():
            figures.setdefault(name, []).append(measure(ask, repeats))
    database.close()
    return figures


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, nargs="+", default=[1000, 8000, 20000])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), options.studies, options.repeats)
    print("| question (ms of processor) |", " | ".join(f"{n:,} studies" for n in options.studies), "| ratio |")
    print("|" + " --- |" * (len(options.studies) + 2))
    for name, values in figures.items():
        cells = " | ".join(f"{value:.1f}" for value in values)
        print(f"| {name} | {cells} | {values[-1] / max(values[0], 0.01):.1f} |")


if __name__ == "__main__":
    main()
