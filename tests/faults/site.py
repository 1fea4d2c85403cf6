"""A whole installation under fault: listener, two workers, delivery and web as processes, and the PACS that they send to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from dicom_node.database.connection import open_database, prepare_database
from dicom_node.settings.reading import load_settings
from tests.fakes.scu import free_port
from tests.faults.node import Process, Role

# Leases, pauses and time-outs are short, so that minutes show what takes hours otherwise.
_SETTINGS = """
data_dir = "{data}"
[listener]
port = {port}
max_associations = 60
pdu_timeout_s = 5
idle_timeout_s = 60
max_object_mb = 20
max_memory_mb = 200
[web]
port = {web}
[study]
quiet_seconds = 3
wait_for_series_seconds = 0
[model]
device = "cpu"
threads = 1
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = {pacs}
[delivery]
retry_first_s = 0.5
retry_max_s = 2
poll_seconds = 0.2
timeout_s = 5
[worker]
poll_seconds = 0.2
heartbeat_s = 0.5
lease_s = 3
retry_first_s = 0.5
retry_max_s = 2
max_attempts = 10
[retention]
disk_reserve_gb = 0
quarantine_max_gb = 0.1
"""


class Site:
    """The processes by name, and where their data are.

    Parameters
    ----------
    folder
        Settings, logs and what the PACS keeps.
    data_dir
        The node's data folder; it may lie on another disk.
    """

    ROLES: ClassVar = {
        "worker-1": "work",
        "worker-2": "work",
        "delivery": "deliver",
        "listener": "listen",
        "web": "web",
    }

    def __init__(self, folder: Path, data_dir: Path) -> None:
        self.port, self.web_port, pacs_port = free_port(), free_port(), free_port()
        self.folder = folder
        self.config = folder / "node.toml"
        self.config.write_text(_SETTINGS.format(data=data_dir, port=self.port, web=self.web_port, pacs=pacs_port))
        self.settings = load_settings(self.config)
        data_dir.mkdir(exist_ok=True)
        self.database = prepare_database(self.settings.database)
        self.archive = folder / "pacs"
        self.archive.mkdir()
        command = [sys.executable, "-m", "tests.fakes.keeping_pacs", str(pacs_port), str(self.archive)]
        self.roles: dict[str, Process] = {}
        self.pacs = Process(command, folder / "pacs.log", "listening")

    def start(self) -> None:
        """Start the node."""
        for name, command in self.ROLES.items():
            self.roles[name] = Role(command, self.config, self.folder / f"{name}.log")

    def stop(self) -> None:
        """Stop the node as an operator does."""
        for process in self.roles.values():
            process.stop()

    def down(self) -> None:
        """End the node at once, so that nothing on its disk is open."""
        for process in self.roles.values():
            process.kill()
        self.database.close()

    def up(self) -> None:
        """Start it again after `down`."""
        self.database = open_database(self.settings.database)
        self.start()

    @property
    def listener(self) -> Process:
        """The process that receives."""
        return self.roles["listener"]

    @property
    def processes(self) -> dict[str, Process]:
        """Of the node and the PACS."""
        return {**self.roles, "pacs": self.pacs}

    def restart_listener(self) -> int:
        """Stop it as an operator does, and start it again: it reconciles disk and index. The exit status."""
        status = self.listener.stop()
        self.listener.start()
        return status

    def fallen(self) -> list[str]:
        """Names of the node's processes that ended by themselves; they are started again."""
        ended = [name for name, process in self.roles.items() if not process.is_running()]
        for name in ended:
            self.roles[name].start()
        return ended

    def logs(self) -> Iterator[tuple[str, str]]:
        """Names and lines of all logs of the node."""
        for path in sorted(self.folder.glob("*.log")):
            with path.open(errors="replace") as lines:
                yield from ((path.name, line) for line in lines)

    def close(self) -> None:
        """Kill whatever runs."""
        for process in self.processes.values():
            if process.is_running():
                process.kill()
        self.database.close()


@contextmanager
def running_site(folder: Path, data_dir: Path) -> Iterator[Site]:
    """A site; nothing of it is left at the end."""
    site = Site(folder, data_dir)
    try:
        site.start()
        yield site
    finally:
        site.close()
