"""`dicom-node demo`: an exam goes by DICOM through a node to a small receiving PACS, all on this machine."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pydicom
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import select

from dicom_node.database.connection import Database
from dicom_node.database.tables import ResultFile, ResultRow
from dicom_node.database.words import RESULT_STATUSES, JobState
from dicom_node.delivery.store_scu import Sender
from dicom_node.dicom.pynetdicom_setup import set_up_pynetdicom
from dicom_node.errors import DeliveryError, NodeError
from dicom_node.health import overview
from dicom_node.health.wording import in_words
from dicom_node.results.overlay import overlay_png
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.settings.sections import Destination
from spineone_core.imaging.files import files_by_study, read_dataset
from spineone_core.phantom.dicom import write_exam
from spineone_core.phantom.exam import PhantomExam

PHANTOM_SEED = 2026
DEFAULT_OUT = Path("demo-output")
QUIET_SECONDS = 2
TABLE_WIDTH = 120
START_TIMEOUT_S = 180.0
# A CPU reads an exam in seconds; this leaves time for a machine under load.
RESULT_TIMEOUT_S = 300.0
SENDER_AE = "DEMO-ROUTER"
PACS_AE = "DEMO-PACS"
_PACS_OPTION = re.compile(r"(?P<ae>[^@]{1,16})@(?P<host>[^@:\[\]]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


class DemoError(NodeError):
    """The demo could not be completed; the message says at which step and why."""


class DemoUsageError(DemoError):
    """An argument does not have the right form."""


@dataclass(frozen=True, slots=True)
class DemoExam:
    """The files to send; the truth is known only for the phantom."""

    study_uid: str
    files: tuple[Path, ...]
    truth: PhantomExam | None


def run_demo(*, study: Path | None = None, pacs: str | None = None, out: Path | None = None) -> int:
    """Take one exam through a fresh node.

    Parameters
    ----------
    study
        Folder of one study's DICOM files; None makes the phantom.
    pacs
        ``AET@host:port`` that gets the results; None starts a small receiving PACS.
    out
        Where the results go; None means ``demo-output`` in the current folder.

    Returns
    -------
    0 on success, 1 if a result is missing, 2 if an argument is wrong. What is wrong is printed.
    """
    # Paths and messages stay on one line, for people who copy them.
    console = Console(highlight=False, soft_wrap=True)
    # A table that is wider than the terminal wraps; one that is cut off would say nothing.
    console.width = max(console.width, TABLE_WIDTH)
    try:
        destination = parse_pacs(pacs) if pacs else None
        with tempfile.TemporaryDirectory(prefix="spineone-demo-") as folder:
            exam = make_exam(Path(folder) / "exam", study, console)
            _Demo(Path(folder), exam, destination, out or DEFAULT_OUT, console).run()
    except (DemoError, DeliveryError) as error:
        console.print(f"[bold red]demo failed:[/] {error}")
        return 2 if isinstance(error, DemoUsageError) else 1
    return 0


def parse_pacs(text: str) -> Destination:
    """The destination that ``AET@host:port`` names.

    Raises
    ------
    DemoUsageError
        If the text does not have that form.
    """
    match = _PACS_OPTION.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise DemoUsageError(f"--pacs {text!r}: must be AETITLE@host:port")
    return Destination(name="pacs", ae_title=match["ae"], host=match["host"].strip("[]"), port=int(match["port"]))


def make_exam(folder: Path, study: Path | None, console: Console) -> DemoExam:
    """The phantom, written as DICOM, or a real study.

    Raises
    ------
    DemoError
        If ``study`` does not hold exactly one study.
    """
    if study is None:
        console.print(f"Making the phantom exam (seed {PHANTOM_SEED}): sagittal T2 and T1, localiser, axial T2")
        written = write_exam(folder, PHANTOM_SEED)
        files = tuple(path for series in written.files.values() for path in series)
        return DemoExam(written.study_uid, files, written.exam)
    if not study.exists():
        raise DemoError(f"--study {study}: no such file or folder")
    studies, unreadable = files_by_study([study])
    for item in unreadable:
        console.print(f"left out: {item.path.name}: {item.why}", markup=False)
    if len(studies) != 1:
        raise DemoError(f"--study {study}: holds {len(studies)} studies; the demo takes one")
    ((uid, paths),) = studies.items()
    return DemoExam(uid, tuple(paths), None)


class _Demo:
    """One run; ``folder`` is thrown away afterwards."""

    def __init__(
        self, folder: Path, exam: DemoExam, destination: Destination | None, out: Path, console: Console
    ) -> None:
        self.folder, self.exam, self.external, self.out, self.console = folder, exam, destination, out, console
        self.port = _free_port()

    def run(self) -> None:
        with _receiving_pacs(self.folder / "pacs", self.external) as (destination, received):
            # A PACS that does not answer would be tried again for minutes; the demo says so at once.
            Sender(destination, calling_ae="SPINEONE", timeout_s=10).echo()
            settings, config = self._write_settings(destination)
            with self._node(config):
                self._send()
                self._wait(settings)
            row, files = _read_result(settings, self.exam.study_uid)
            self._deliver(row, files, settings, received)

    def _write_settings(self, destination: Destination) -> tuple[NodeSettings, Path]:
        config = self.folder / "node.toml"
        config.write_text(
            f"""data_dir = "data"
[listener]
port = {self.port}
[[peers]]
ae_title = "{SENDER_AE}"
addresses = ["127.0.0.1"]
[study]
quiet_seconds = {QUIET_SECONDS}
[[destinations]]
name = "{destination.name}"
ae_title = "{destination.ae_title}"
host = "{destination.host}"
port = {destination.port}
[delivery]
poll_seconds = 0.5
[worker]
poll_seconds = 0.2
[web]
enabled = false
[retention]
disk_reserve_gb = 0.1
""",
            encoding="utf-8",
        )
        return load_settings(config), config

    @contextmanager
    def _node(self, config: Path) -> Iterator[None]:
        """Run ``dicom-node serve`` with its own processes; its log goes to ``node.log`` beside the results."""
        self.out.mkdir(parents=True, exist_ok=True)
        log_path = self.out / "node.log"
        command = [sys.executable, "-m", "dicom_node.cli", "serve", "--config", str(config)]
        with log_path.open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            try:
                self._wait_for_listener(process, log_path)
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()

    def _wait_for_listener(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        node = Destination(name="node", ae_title="SPINEONE", host="127.0.0.1", port=self.port)
        deadline = time.monotonic() + START_TIMEOUT_S
        with self.console.status("Starting the node"):
            while time.monotonic() < deadline:
                if process.poll() is not None:
                    last = log_path.read_text(errors="replace").strip().splitlines()[-1:]
                    raise DemoError(f"the node did not start: {' '.join(last)} (log: {log_path})")
                try:
                    Sender(node, calling_ae=SENDER_AE, timeout_s=5).echo()
                except DeliveryError:
                    time.sleep(0.3)
                else:
                    self.console.print(f"Node SPINEONE listens on 127.0.0.1:{self.port} and answers C-ECHO")
                    return
        raise DemoError(f"the node was not ready after {START_TIMEOUT_S:.0f} s (log: {log_path})")

    def _send(self) -> None:
        """C-STORE every file in its own transfer syntax, as a router would."""
        contexts = {_context(path) for path in self.exam.files}
        ae = AE(SENDER_AE)
        for sop_class, syntax in sorted(contexts):
            ae.add_requested_context(sop_class, syntax)
        association = ae.associate("127.0.0.1", self.port, ae_title="SPINEONE")
        if not association.is_established:
            raise DemoError("the node refused the association")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task("Sending by C-STORE", total=len(self.exam.files))
            for path in self.exam.files:
                status = association.send_c_store(path)
                if "Status" not in status or status.Status != 0:
                    association.abort()
                    raise DemoError(f"the node did not store {path.name}: status {status.get('Status', 'none')}")
                progress.advance(task)
        association.release()

    def _wait(self, settings: NodeSettings) -> None:
        """Wait until the study has a result and all of it was sent."""
        database = Database(settings.database)
        deadline = time.monotonic() + RESULT_TIMEOUT_S
        said = ""
        with self.console.status("Waiting for the results") as display:
            while time.monotonic() < deadline:
                with database.read() as session:
                    state = overview.status(session, settings)
                study = next((s for s in state["studies"] if s["study_uid"] == self.exam.study_uid), None)
                where = study["state"] if study else "not received yet"
                if where != said:
                    said = where
                    display.update(f"Study: {in_words(where)}")
                if study and study["not_sent"]:
                    raise DemoError(f"a result could not be delivered: {state['destinations'][0]['last_error']}")
                if study and where == JobState.FAILED:
                    raise DemoError(f"the analysis failed: {study['reason']}")
                if study and where in RESULT_STATUSES and not study["to_send"]:
                    return
                time.sleep(0.3)
        error = state["destinations"][0]["last_error"] if state["destinations"] else ""
        raise DemoError(f"no result after {RESULT_TIMEOUT_S:.0f} s; study: {said}. {error}")

    def _deliver(
        self, row: dict[str, Any], files: dict[str, Path], settings: NodeSettings, received: dict[str, Path] | None
    ) -> None:
        """Print the findings, copy the results to the output folder, and check that nothing is missing."""
        folder = self.out / self.exam.study_uid
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "findings.json").write_text(json.dumps(row, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        self.console.print(_findings_table(row, self.exam.truth))
        for warning in row["warnings"]:
            self.console.print(f"warning: {warning}", markup=False)
        # What the PACS got if it is ours; otherwise, what was sent to it.
        source = received if received is not None else files
        for role, name in (("report", "sr.dcm"), ("overlay", "overlay.dcm")):
            if role in source:
                shutil.copyfile(source[role], folder / name)
                self.console.print(f"{'Structured Report' if role == 'report' else 'Overlay'}: {folder / name}")
        if "overlay" in source:
            (folder / "overlay.png").write_bytes(overlay_png(pydicom.dcmread(source["overlay"])))
            self.console.print(f"Picture: {folder / 'overlay.png'}")
        if row["status"] != "analysed":
            raise DemoError(f"the study is not analysable: {row['reason']}: {row['reason_detail']}")
        missing = [role for role in ("report", "overlay") if role not in source]
        if missing:
            raise DemoError(f"the PACS did not get: {', '.join(missing)}")
        self.console.print("[bold green]Report and overlay are in the PACS.[/] Research use only; not a diagnosis.")


# ---------------------------------------------------------------- the receiving PACS


@contextmanager
def _receiving_pacs(folder: Path, external: Destination | None) -> Iterator[tuple[Destination, dict[str, Path] | None]]:
    """Our PACS on a free port, with what it received by role; or the external one, whose store we cannot see."""
    if external is not None:
        yield external, None
        return
    folder.mkdir(parents=True)
    set_up_pynetdicom()
    received: dict[str, Path] = {}
    lock = Lock()

    def store(event: Any) -> int:
        path = folder / f"{event.request.AffectedSOPInstanceUID}.dcm"
        path.write_bytes(event.encoded_dataset())
        header = read_dataset(path, pixels=False)
        # The table of levels is the overlay's second picture.
        role = "report" if header.get("Modality") == "SR" else "overlay" if header.InstanceNumber == 1 else "table"
        with lock:
            received[role] = path
        return 0x0000

    ae = AE(PACS_AE)
    ae.supported_contexts = AllStoragePresentationContexts
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        port = server.socket.getsockname()[1]
        yield Destination(name="demo-pacs", ae_title=PACS_AE, host="127.0.0.1", port=port), received
    finally:
        server.shutdown()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _context(path: Path) -> tuple[str, str]:
    header = read_dataset(path, pixels=False)
    try:
        syntax = read_file_meta_info(path).TransferSyntaxUID
    except Exception:  # a file without a meta group
        syntax = header.file_meta.TransferSyntaxUID
    return str(header.SOPClassUID), str(syntax)


# ---------------------------------------------------------------- results


def _read_result(settings: NodeSettings, study_uid: str) -> tuple[dict[str, Any], dict[str, Path]]:
    """The findings and the result's files by role."""
    with Database(settings.database).read() as session:
        row = session.scalar(select(ResultRow).where(ResultRow.study_uid == study_uid).order_by(ResultRow.id.desc()))
        if row is None:
            raise DemoError("the node has no result of the study")
        files = session.scalars(select(ResultFile).where(ResultFile.result_id == row.id))
        return json.loads(row.findings), {file.role: settings.data_dir / file.path for file in files}


def _findings_table(row: dict[str, Any], truth: PhantomExam | None) -> Table:
    model = row["model"]
    table = Table(title=f"{row['status']} by {model['name']} {model['version']} ({model['digest'][:12]})")
    truths = () if truth is None else ("true class", "off by (mm)")
    for name in ("level", "structure", "class", "grade", "P(degenerative)", "column", "row", *truths):
        table.add_column(name, no_wrap=True)
    for finding in row["findings"]:
        table.add_row(*_cells(finding), *(_truth_cells(finding, truth) if truth else ()))
    return table


def _cells(finding: dict[str, Any]) -> Sequence[str]:
    undecided = "" if finding["decided"] else " (undecided)"
    return (
        finding["level"],
        finding["structure"],
        finding["class"] + undecided,
        str(finding["pfirrmann"]["grade"]) if finding["pfirrmann"] else "",
        f"{finding['probability']:.2f}",
        f"{finding['x']:.1f}",
        f"{finding['y']:.1f}",
    )


def _truth_cells(finding: dict[str, Any], truth: PhantomExam) -> Sequence[str]:
    point = truth.volume.to_patient(truth.volume.middle_index, *truth.points[finding["level"]])
    distance = math.dist(finding["xyz_mm"], point)
    return truth.grades[finding["level"]].value, f"{distance:.1f}"
