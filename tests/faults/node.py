"""Real processes of a node, for the faults."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dicom_node.schema import Database, prepare_database
from dicom_node.settings import NodeSettings, load_settings
from tests.fakes.scu import free_port
from tests.peers import node_command

ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen in {seconds:g} s"
        time.sleep(0.05)


class Process:
    """One process of a node, with its log."""

    def __init__(self, command: str, config: Path, log: Path, ready: str) -> None:
        self._command, self._config, self._log_path, self._ready = command, config, log, ready
        self.start()

    def start(self) -> None:
        """Start it and wait until it does its work."""
        with self._log_path.open("ab") as log:
            at = log.tell()
            self.process = subprocess.Popen(
                node_command(self._command, "--config", self._config), cwd=ROOT, stdout=log, stderr=log
            )
        until(lambda: f'"event": "{self._ready}"' in self.log[at:] or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log

    @property
    def log(self) -> str:
        return self._log_path.read_text(errors="replace")

    @property
    def memory(self) -> int:
        """Resident bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class Listener(Process):
    """`dicom-node listen` on a folder of its own."""

    def __init__(self, folder: Path, listener: str = "", more: str = "") -> None:
        self.port = free_port()
        config = folder / "node.toml"
        config.write_text(f"[listener]\nport = {self.port}\n{listener}\n[retention]\ndisk_reserve_gb = 0\n{more}\n")
        self.settings: NodeSettings = load_settings(config)
        self.settings.data_dir.mkdir(exist_ok=True)
        self.database: Database = prepare_database(self.settings.database)
        super().__init__("listen", config, folder / "listener.log", "listening")


@contextmanager
def running_listener(folder: Path, listener: str = "", more: str = "") -> Iterator[Listener]:
    """A listener process; it must still be there at the end, and stop cleanly."""
    running = Listener(folder, listener, more)
    try:
        yield running
        assert running.process.poll() is None, running.log
        assert running.stop() == 0, running.log
    finally:
        running.database.close()
        if running.process.poll() is None:
            running.kill()
