"""What can be checked of deploy/ without the systems it is for: their own linters, and agreement with the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.schema import Database
from dicom_node.settings import NodeSettings, load_settings
from dicom_node.web.measures import NodeCollector

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
# systemd-analyze's exposure: 0 is everything forbidden, 10 nothing.
MOST_EXPOSURE = 2.0


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"not installed: {name}")
    return found


def run(*command: object, folder: Path | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The unit files with a program that exists here; of the template, one instance."""
    for unit in (DEPLOY / "systemd").iterdir():
        text = unit.read_text().replace("/opt/spineone/current/bin/dicom-node", sys.executable)
        (tmp_path / unit.name.replace("@", "@1")).write_text(text)
    return tmp_path


def test_units__systemd_verifies_them(units: Path) -> None:
    said = run(program("systemd-analyze"), "verify", *(f"./{unit.name}" for unit in units.iterdir()), folder=units)
    assert said.strip() == ""


def test_units__are_hardened(units: Path) -> None:
    for unit in units.glob("*.service"):
        said = run(program("systemd-analyze"), "security", "--offline=yes", f"./{unit.name}", folder=units)
        exposure = float(re.findall(r"exposure level for \S+: ([\d.]+)", said)[-1])
        assert exposure <= MOST_EXPOSURE, f"{unit.name}: {exposure}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units__run_commands_that_exist(unit: Path) -> None:
    from dicom_node.cli import app

    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    called = re.findall(r"^ExecStart=\S+ (\S+)", unit.read_text(), re.MULTILINE)
    assert called
    assert set(called) <= known


def test_install__is_a_sound_script() -> None:
    script = DEPLOY / "install.sh"
    run("bash", "-n", script)
    assert run("bash", script, "--help").startswith("Installs or upgrades")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--nonsense"], "unknown option"), (["--prefix"], "needs a value"), (["--python", "/bin/false"], "error: ")],
)
def test_install__refuses_and_says_why(arguments: list[str], says: str, tmp_path: Path) -> None:
    folders = ["--prefix", str(tmp_path / "opt"), "--state", str(tmp_path / "state"), "--no-systemd"]
    done = subprocess.run(
        ["bash", str(DEPLOY / "install.sh"), *folders, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert not list(tmp_path.iterdir())


def test_monitoring__names_only_metrics_that_the_node_has(node_settings: NodeSettings, database: Database) -> None:
    known = set()
    for family in NodeCollector(node_settings, database).collect():
        known.add(f"{family.name}_total" if family.type == "counter" else family.name)
    used = re.findall(r"spineone_\w+", (DEPLOY / "monitoring" / "rules.yaml").read_text())
    dashboard = json.loads((DEPLOY / "monitoring" / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            used += re.findall(r"spineone_\w+", target["expr"])
    assert len(used) > 20
    assert set(used) <= known


def test_monitoring__the_rules_fire_when_they_should() -> None:
    said = run(program("promtool"), "test", "rules", "rules_test.yaml", folder=DEPLOY / "monitoring")
    assert "SUCCESS" in said


def test_kubernetes__the_settings_are_valid(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text((DEPLOY / "kubernetes" / "node.toml").read_text())
    assert load_settings(config).listener.host == "0.0.0.0"


def test_kubernetes__the_manifests_can_be_built() -> None:
    built = run(program("kubectl"), "kustomize", DEPLOY / "kubernetes")
    assert built.count("kind: Deployment") == 4
    assert "image: spineone-node:" in built


def test_compose__the_settings_in_its_environment_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "container" / "compose.yaml").read_text()
    values = dict(re.findall(r"^      (SPINEONE_\w+): '(.+)'$", text, re.MULTILINE))
    assert set(values) == {"SPINEONE_PEERS", "SPINEONE_DESTINATIONS"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "node.toml"
    config.write_text("")
    assert load_settings(config).destinations[0].host == "orthanc"
