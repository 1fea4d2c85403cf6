"""Real parties that tests talk to, started by the tests themselves: Debian's Orthanc, DCMTK's programs, the node."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dicom_node.database.connection import open_database
from dicom_node.health import overview
from dicom_node.settings.reading import load_settings

T = TypeVar("T")

ORTHANC = Path("/usr/sbin/Orthanc")
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
# pip's pynetdicom installs programs of the same names: DCMTK's are called by full path.
STORESCU = Path("/usr/bin/storescu")
DCIODVFY = Path("/usr/bin/dciodvfy")


def need(*programs: Path) -> pytest.MarkDecorator:
    """Skip the test if a program is not installed, and say which one."""
    missing = [str(program) for program in programs if not program.exists()]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(ask: Callable[[], T], *, timeout_s: float, what: str) -> T:
    """The first true answer."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {timeout_s:.0f} s")


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: DICOM and HTTP ports on loopback."""

    ae_title: str
    port: int
    http_port: int
    # "user:password"; empty if it lets everybody in.
    login: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def get(self, path: str, body: bytes | None = None) -> Any:
        """What it answers; with a body, to a POST."""
        return json.loads(self._read(path, body))

    def post(self, path: str, body: Any) -> Any:
        """A text is sent as it is, everything else as JSON."""
        data = body if isinstance(body, str) else json.dumps(body)
        with urllib.request.urlopen(self._url(path), data.encode(), timeout=60) as answer:
            return json.loads(answer.read())

    def delete(self, path: str) -> None:
        request = urllib.request.Request(self._url(path), method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def kill(self) -> None:
        """As if its power failed."""
        assert self.process
        self.process.kill()
        self.process.wait(30)

    def _url(self, path: str) -> str:
        return f"{self.url}{path}"

    def _read(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self._url(path), body)
        if self.login:
            request.add_header("Authorization", f"Basic {base64.b64encode(self.login.encode()).decode()}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            data: bytes = answer.read()
            return data

    def file_of(self, instance: str) -> bytes:
        return self._read(f"/instances/{instance}/file")

    def instances(self, study_uid: str) -> dict[str, list[str]]:
        """Orthanc's instance identifiers of a study by modality."""
        found: dict[str, list[str]] = {}
        for series in self.get("/series?expand"):
            study = self.get(f"/studies/{series['ParentStudy']}")
            if study["MainDicomTags"]["StudyInstanceUID"] == study_uid:
                found.setdefault(series["MainDicomTags"].get("Modality", ""), []).extend(series["Instances"])
        return found


@contextmanager
def running_orthanc(
    folder: Path,
    *,
    plugins: tuple[Path, ...] = (),
    more: dict[str, Any] | None = None,
    http_port: int | None = None,
) -> Iterator[Orthanc]:
    """Start an Orthanc of our own with its storage below ``folder``; ``more`` are further settings of it."""
    folder.mkdir(parents=True, exist_ok=True)
    more = more or {}
    orthanc = Orthanc(
        "ORTHANC",
        free_port(),
        http_port or free_port(),
        ":".join(next(iter(more.get("RegisteredUsers", {}).items()), ())),
    )
    config = {
        "Name": "test",
        "DicomAet": orthanc.ae_title,
        "DicomPort": orthanc.port,
        "HttpPort": orthanc.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(plugin) for plugin in plugins],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomAlwaysAllowStore": True,
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        wait_for(lambda: _answers(orthanc), timeout_s=60, what="Orthanc's HTTP server")
        yield replace(orthanc, process=process)
    finally:
        process.terminate()
        process.wait(30)


def _answers(orthanc: Orthanc) -> bool:
    try:
        return bool(orthanc.get("/system"))
    except OSError:
        return False


def node_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "dicom_node.cli", *map(str, arguments)]


@contextmanager
def running_node(config: Path, log: Path, *, timeout_s: float = 120) -> Iterator[subprocess.Popen[bytes]]:
    """``dicom-node serve`` until its log says that it is ready; SIGTERM at the end must stop it cleanly."""
    with log.open("wb") as stream:
        process = subprocess.Popen(node_command("serve", "--config", config), stdout=stream, stderr=stream)

    def is_ready() -> bool:
        assert process.poll() is None, f"the node ended: {log.read_text(errors='replace')[-2000:]}"
        return '"ready"' in log.read_text(errors="replace")

    try:
        wait_for(is_ready, timeout_s=timeout_s, what="the node's start")
        yield process
        process.terminate()
        assert process.wait(40) == 0, "SIGTERM did not stop the node cleanly"
    finally:
        if process.poll() is None:
            process.kill()


def node_status(config: Path) -> dict[str, Any]:
    """What `dicom-node status --json` prints, without a process for each question: for waiting."""
    settings = load_settings(config)
    database = open_database(settings.database)
    try:
        with database.read() as session:
            return overview.status(session, settings)
    finally:
        database.close()


def storescu(
    port: int, *paths: Path, called: str = "SPINEONE", calling: str = "ROUTER"
) -> subprocess.CompletedProcess[str]:
    """Send files or folders with DCMTK's storescu."""
    command = [STORESCU, "-aet", calling, "-aec", called, "+sd", "+r", "127.0.0.1", str(port), *map(str, paths)]
    environment = {"TCP_NODELAY": "1", "TCP_BUFFER_LENGTH": "131072", "PATH": "/usr/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def dciodvfy_errors(path: Path) -> list[str]:
    """The lines in which dciodvfy finds an error."""
    result = subprocess.run([DCIODVFY, path], capture_output=True, text=True, timeout=60, check=False)
    return [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("Error")]
