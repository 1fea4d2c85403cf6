"""Real processes of a node, for the faults."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from dicom_node.database.connection import Database, prepare_database
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.system.lifecycle import SUPERVISOR_PID
from tests.fakes.scu import free_port
from tests.peers import node_command

ROOT = Path(__file__).parents[2]
_START_WITHIN_S = 60.0


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen in {seconds:g} s"
        time.sleep(0.05)


class Process:
    """One process with its log; it stops by itself when the test process is gone."""

    def __init__(self, command: list[str], log: Path, ready: str) -> None:
        self._command, self._log_path, self._ready = command, log, ready
        self.start()

    def start(self) -> None:
        """Start it and wait until it does its work."""
        self.launch()
        until(lambda: self.is_ready() or not self.is_running(), _START_WITHIN_S)
        assert self.is_running(), self.log

    def launch(self) -> None:
        """Start it and do not wait."""
        with self._log_path.open("ab") as log:
            self._begin = log.tell()
            environment = {**os.environ, SUPERVISOR_PID: str(os.getpid())}
            self.process = subprocess.Popen(self._command, cwd=ROOT, stdout=log, stderr=log, env=environment)

    def is_ready(self) -> bool:
        """Whether it has said since its last start that it is ready."""
        with self._log_path.open("rb") as log:
            log.seek(self._begin)
            return f'"event": "{self._ready}"'.encode() in log.read(100_000)

    def is_running(self) -> bool:
        """Whether it lives."""
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return self._status("VmRSS") * 1024

    @property
    def threads(self) -> int:
        return self._status("Threads")

    @property
    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def _status(self, field: str) -> int:
        return int(Path(f"/proc/{self.process.pid}/status").read_text().split(f"{field}:")[1].split()[0])

    @property
    def processor_s(self) -> float:
        """Seconds of processor time since its start."""
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class Role(Process):
    """One of a node's processes: ``listen``, ``work``, ``deliver`` or ``web``."""

    READY: ClassVar = {"listen": "listening", "work": "working", "deliver": "delivering", "web": "web_listening"}

    def __init__(self, command: str, config: Path, log: Path) -> None:
        super().__init__(node_command(command, "--config", config), log, self.READY[command])


class Listener(Role):
    """`dicom-node listen` on a folder of its own."""

    def __init__(self, folder: Path, listener: str = "", more: str = "") -> None:
        self.port = free_port()
        config = folder / "node.toml"
        config.write_text(f"[listener]\nport = {self.port}\n{listener}\n[retention]\ndisk_reserve_gb = 0\n{more}\n")
        self.settings: NodeSettings = load_settings(config)
        self.settings.data_dir.mkdir(exist_ok=True)
        self.database: Database = prepare_database(self.settings.database)
        super().__init__("listen", config, folder / "listener.log")


@contextmanager
def running_listener(folder: Path, listener: str = "", more: str = "") -> Iterator[Listener]:
    """A listener process; it must still be there at the end, and stop cleanly."""
    running = Listener(folder, listener, more)
    try:
        yield running
        assert running.is_running(), running.log
        assert running.stop() == 0, running.log
    finally:
        running.database.close()
        if running.is_running():
            running.kill()
