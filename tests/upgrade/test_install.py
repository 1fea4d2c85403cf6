"""deploy/install.sh in a root of its own: a fresh node, an upgrade of what an earlier release left, and taking it away.

pip and systemd are stand-ins: the "release" that pip installs runs today's code from this source tree, and systemctl notes
what it is asked. Everything else is what the script really does.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from dicom_node.database.migrations import head

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INSTALL = ROOT / "deploy" / "install.sh"
RELEASES = sorted(path.name for path in HERE.iterdir() if (path / "node.sql").is_file())

# Stands for the system's Python, for that of a virtual environment, and for pip in it.
PYTHON = f"""#!/bin/bash
here="$(cd "$(dirname "$0")" && pwd)"
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin" && exec cp "$0" "$3/bin/python" ;;
  "-m pip")
    sleep "${{PIP_S:-0}}"
    printf '#!/bin/bash\\nexec "%s/python" -m dicom_node.cli "$@"\\n' "$here" >"$here/dicom-node"
    exec chmod +x "$here/dicom-node" ;;
esac
PYTHONPATH={ROOT} exec {sys.executable} "$@"
"""
# The program of an earlier release, as far as an upgrade needs it: its backups have the format of today's.
OLD_PROGRAM = f"""#!/bin/bash
case "$1" in
  backup) PYTHONPATH={ROOT} exec {sys.executable} -c 'import sys
from pathlib import Path
from dicom_node.settings.reading import load_settings
from dicom_node.upkeep.backup import write_backup
config = Path(sys.argv[2])
write_backup(load_settings(config), config, Path(sys.argv[1]))' "$2" "$4" ;;
  restore) exec tar -xf "$2" -C "$4/data" node.db ;;
esac
"""
SYSTEMCTL = """#!/bin/bash
echo "$*" >>"$CALLS"
case "$1" in
  list-units) echo "dicom-node.service loaded active running node" ;;
  start) [ ! -e "$FAIL_ONCE" ] || { rm "$FAIL_ONCE"; exit 1; } ;;
esac
"""


class Machine:
    """A root folder with an installation, and the script run in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.prefix, self.state = self.root / "opt" / "spineone", self.root / "var" / "spineone"
        self.units = self.root / "etc" / "systemd" / "system"
        self.program = self.root / "usr" / "local" / "bin" / "dicom-node"
        self.calls, self.fail_once = folder / "calls", folder / "fail"
        self.bin = folder / "bin"
        for name, text in {"python": PYTHON, "systemctl": SYSTEMCTL, "journalctl": "#!/bin/bash\n"}.items():
            self.write_program(self.bin / name, text)
        self.root.mkdir()

    @staticmethod
    def write_program(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def install(
        self, *options: str, status: int = 0, typed: str = "", systemd: bool = False, **environment: str
    ) -> str:
        """What the script says on both streams."""
        if systemd:
            (self.root / "run" / "systemd" / "system").mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [
                "bash", str(INSTALL), "--prefix", str(self.prefix), "--state", str(self.state),
                "--user", getpass.getuser(), "--python", str(self.bin / "python"),
                *(() if systemd else ("--no-systemd",)), *options,
            ],
            env={
                **os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "DESTDIR": str(self.root), "NEED_MB": "1",
                "CALLS": str(self.calls), "FAIL_ONCE": str(self.fail_once), **environment,
            },
            input=typed, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def current(self) -> Path:
        return Path(os.readlink(self.prefix / "current"))

    def schema(self) -> str:
        with closing(sqlite3.connect(self.state / "data" / "node.db")) as connection:
            (found,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(found)

    def tree(self) -> dict[str, tuple[int, int]]:
        """Every file and link with its mode and time of change."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            status = path.lstat()
            found[str(path.relative_to(self.root))] = (status.st_mode, 0 if path.is_dir() else status.st_mtime_ns)
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(params=RELEASES)
def old(request: pytest.FixtureRequest, machine: Machine) -> Machine:
    """A machine on which an earlier release was installed and has worked."""
    release = machine.prefix / "releases" / "20260101T000000Z"
    Machine.write_program(release / "bin" / "dicom-node", OLD_PROGRAM)
    (machine.prefix / "releases" / "20250101T000000Z").mkdir()
    (machine.prefix / "current").symlink_to(release)
    (machine.state / "data").mkdir(parents=True)
    shutil.copy(HERE / request.param / "node.toml", machine.state)
    with closing(sqlite3.connect(machine.state / "data" / "node.db")) as connection:
        connection.executescript((HERE / request.param / "node.sql").read_text(encoding="utf-8"))
    machine.units.mkdir(parents=True)
    (machine.units / "dicom-node.service").write_text("[Unit]\nDescription=old\n")
    return machine


def test_install__a_fresh_node_and_it_says_that_it_goes_on(machine: Machine) -> None:
    said = machine.install(PIP_S="3", PROGRESS_S="1")
    assert "goes on: 0 min 1 s" in said
    config = machine.state / "node.toml"
    assert config.stat().st_mode & 0o777 == 0o640
    assert machine.schema() == head()
    assert Path(os.readlink(machine.program)) == machine.prefix / "current" / "bin" / "dicom-node"
    done = subprocess.run([machine.program, "status", "--config", config], capture_output=True, text=True, check=True)
    assert "0 studies" in done.stdout
    # Nothing goes until the path of the data is typed, and without --purge-data the data stay.
    assert "nothing was deleted" in machine.install("--uninstall", "--purge-data", status=1, typed="yes\n")
    assert machine.program.is_symlink()
    said = machine.install("--uninstall")
    assert f"kept      {machine.state}" in said
    assert not machine.prefix.exists()
    assert not machine.program.is_symlink()
    assert machine.schema() == head()
    assert "would" in machine.install("--uninstall", "--purge-data", "--dry-run")
    assert config.is_file()
    machine.install("--uninstall", "--purge-data", typed=f"{machine.state}\n")
    assert not machine.state.exists()


def test_install__purges_no_folder_without_a_node(machine: Machine) -> None:
    machine.state.mkdir(parents=True)
    (machine.state / "other").write_text("not the node's")
    said = machine.install("--uninstall", "--purge-data", status=1, typed=f"{machine.state}\n")
    assert "is no data of a node" in said
    assert (machine.state / "other").is_file()


def test_upgrade__of_a_stopped_node_keeps_settings_and_studies(old: Machine) -> None:
    settings, before = (old.state / "node.toml").read_text(), old.current()
    said = old.install()
    assert "ok: settings, database, model" in said
    assert old.current() != before
    assert (old.state / "node.toml").read_text() == settings
    assert old.schema() == head()
    assert [path.name.split("-")[0] for path in (old.state / "backups").glob("*.tar")] == ["before"]
    # The release before is kept, older ones are not.
    assert {path.name for path in (old.prefix / "releases").iterdir()} == {before.name, old.current().name}
    status = [old.program, "status", "--json", "--config", old.state / "node.toml"]
    done = subprocess.run(status, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["studies"]) == 4


def test_upgrade__that_does_not_start_is_taken_back(old: Machine) -> None:
    before, schema = old.current(), old.schema()
    old.fail_once.write_text("")
    said = old.install(systemd=True, status=1)
    assert f"the upgrade was taken back; {before} runs again" in said
    assert old.current() == before
    assert old.schema() == schema
    assert "Description=old" in (old.units / "dicom-node.service").read_text()
    calls = old.calls.read_text().splitlines()
    assert [call for call in calls if call.startswith(("stop", "start"))] == [
        "stop dicom-node.service", "start dicom-node.service", "stop dicom-node.service", "start dicom-node.service",
    ]  # fmt: skip


def test_dry_run__changes_nothing(old: Machine) -> None:
    tree = old.tree()
    said = old.install("--dry-run", systemd=True)
    assert "nothing was changed" in said
    assert f"would     keep {old.current()} for going back" in said
    said = old.install("--uninstall", "--dry-run", systemd=True)
    assert f"would     rm -f {old.units}/dicom-node.service" in said
    assert {name: at for name, at in old.tree().items() if not name.startswith("run")} == tree
    assert all(call.startswith("list-units") for call in old.calls.read_text().splitlines())


def test_uninstall__stops_and_disables_the_units(old: Machine) -> None:
    old.install("--uninstall", systemd=True)
    calls = old.calls.read_text()
    assert "disable --now dicom-node.service" in calls
    assert "daemon-reload" in calls
    assert not list(old.units.iterdir())
    assert (old.state / "data" / "node.db").is_file()
