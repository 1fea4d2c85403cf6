"""`dicom-node serve` with all its processes, a sender and a PACS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from spineone_core.version import software_version
from tests.fakes import audit
from tests.fakes.datasets import STUDY, mr_image
from tests.fakes.model import write_tiny_model
from tests.fakes.pacs import running_pacs
from tests.fakes.scu import association, free_port, send
from tests.peers import node_status

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "dicom_node.cli"]

SETTINGS = """
[listener]
port = {port}
[study]
quiet_seconds = 1
wait_for_series_seconds = 1
min_slices = 3
[model]
path = "{model}"
threads = 1
device = "cpu"
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs}
[delivery]
retry_first_s = 0.5
retry_max_s = 1
poll_seconds = 0.2
timeout_s = 5
[worker]
poll_seconds = 0.2
heartbeat_s = 0.5
lease_s = 3
[web]
port = {web}
[retention]
disk_reserve_gb = 0
"""


class Node:
    """A running `serve`."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.config = folder / "node.toml"
        self.port, self.pacs_port, self.web_port = free_port(), free_port(), free_port()
        self.config.write_text(SETTINGS.format(port=self.port, pacs=self.pacs_port, web=self.web_port, model=model))
        self.log = folder / "log.jsonl"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, "serve", "--config", str(self.config)], cwd=ROOT, stdout=log, stderr=log
            )
        until(lambda: '"event": "ready"' in self.log.read_text() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log.read_text()

    def status(self) -> dict[str, Any]:
        command = [*PROGRAM, "status", "--json", "--config", str(self.config)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        return dict(json.loads(done.stdout))

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def children(self) -> dict[str, int]:
        """Process ids by the sub-command they run."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {Path(f"/proc/{pid}/cmdline").read_text().split("\0")[3]: int(pid) for pid in listed}

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(25)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen in {seconds:g} s"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def node(tmp_path: Path, model: Path) -> Iterator[Node]:
    running = Node(tmp_path, model)
    yield running
    # pytest shows this if the test fails.
    print(running.log.read_text())
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def test_serve__the_whole_way_bad_input_crash_and_stop(node: Node) -> None:
    first = json.loads(node.log.read_text().splitlines()[0])
    assert (first["event"], first["version"]) == ("starting", software_version())
    assert first["settings"] == str(node.config)
    assert first["listener"] == f"SPINEONE at 127.0.0.1:{node.port}"
    assert first["tls"] == "off"
    assert first["web"] == f"http://127.0.0.1:{node.web_port}/"
    # The PACS is down at first: the result waits.
    assert send(node.port, *[mr_image(n) for n in range(1, 6)]) == [0] * 5
    with association(node.port, called="WRONG") as refused:
        assert refused.is_rejected
    broken = mr_image(9, study="1.2.9")
    del broken.SeriesInstanceUID
    assert send(node.port, broken) == [0xC000]
    until(lambda: node_status(node.config)["destinations"][0]["last_error"] != "")
    state = node.status()
    assert {alert["kind"] for alert in state["alerts"]} == {"refused", "quarantine", "destination_down"}
    assert state["jobs"]["done"] == 1
    assert state["studies"][0]["state"] in ("analysed", "not_analysable")

    with running_pacs(node.pacs_port) as pacs:
        until(lambda: node_status(node.config)["outbox"]["waiting"] == 0)
        assert pacs.uids

        # A killed worker is replaced, and its successor works.
        os.kill(node.children()["work"], signal.SIGKILL)
        until(lambda: "process_restarted" in node.log.read_text())
        sent = len(pacs.stored)
        image = mr_image(1, study="1.2.77")
        image.SeriesDescription = "loc"
        assert send(node.port, image) == [0]
        until(lambda: len(pacs.stored) > sent)

    state = node.status()
    newest = state["studies"][0]
    assert (newest["study_uid"], newest["state"]) == ("1.2.77", "not_analysable")
    assert newest["reason"]
    assert {study["study_uid"] for study in state["studies"]} == {STUDY, "1.2.77"}

    children = node.children()
    assert set(children) == {"work", "deliver", "listen", "web"}
    assert '"ready":true' in node.page("/readyz")
    assert 'spineone_results_total{reason="' in node.page("/metrics")
    assert "SECRET" not in node.page("/metrics") + node.page("/")
    assert node.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in children.values())
    log = node.log.read_text()
    assert '"event": "stopped"' in log
    assert "SECRET" not in log
    assert "Traceback" not in log
    for line in log.splitlines():
        json.loads(line)
    check_audit_trail(node.config.parent / "data")


def check_audit_trail(data: Path) -> None:
    """The audit log tells the day: which processes came and went, who sent what, who was refused, what was sent on."""
    assert b"SECRET" not in b"".join(audit.lines(data))
    found = audit.messages(data)
    started = [audit.roles(m)["110150"].split(":")[0] for m in audit.of_event(found, "110100") if is_start(m)]
    assert sorted(set(started)) == ["delivery", "listener", "supervisor", "web", "worker"]
    stopped = [audit.roles(m)["110150"].split(":")[0] for m in audit.of_event(found, "110100") if not is_start(m)]
    # The killed worker left no message; its successor did.
    assert sorted(stopped) == ["delivery", "listener", "supervisor", "web", "worker"]
    came = audit.of_event(found, "110104")
    arrived = [m for m in came if audit.roles(m)["110153"] == "TEST"]
    assert [(study_of(m), sum(audit.classes(m).values()), outcome_of(m)) for m in arrived] == [
        (STUDY, 5, "0"),
        ("unknown", 1, "4"),
        ("1.2.77", 1, "0"),
    ]
    sent_on = {study_of(m) for m in came if audit.roles(m)["110152"] == "PACS" and outcome_of(m) == "0"}
    assert sent_on == {STUDY, "1.2.77"} == {study_of(m) for m in audit.of_event(found, "110102")}
    assert {study_of(m) for m in audit.of_event(found, "110103")} == {STUDY, "1.2.77"}
    (refused,) = audit.of_event(found, "110113")
    assert "wrong called AE title" in audit.detail(refused, "Alert Description")


def is_start(message: Element) -> bool:
    return audit.code_of(message, "EventIdentification/EventTypeCode") == "110120"


def study_of(message: Element) -> str:
    return message.findtext("ParticipantObjectIdentification/ParticipantObjectName") or ""


def outcome_of(message: Element) -> str:
    return message[0].attrib["EventOutcomeIndicator"]


def test_serve__killed_itself_leaves_no_orphans(node: Node) -> None:
    children = node.children()
    node.process.kill()
    node.process.wait()
    until(lambda: not any(is_running(pid) for pid in children.values()), 20)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] not in "ZX"
    except OSError:
        return False


def test_serve__a_damaged_model_refuses_to_start(tmp_path: Path, model: Path) -> None:
    damaged = tmp_path / "model"
    shutil.copytree(model, damaged)
    weights = damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    config = tmp_path / "node.toml"
    config.write_text(SETTINGS.format(port=free_port(), pacs=free_port(), web=free_port(), model=damaged))
    done = subprocess.run(
        [*PROGRAM, "serve", "--config", str(config)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"model {damaged}: {weights}: SHA-256 " in done.stderr
    assert "Traceback" not in done.stderr
