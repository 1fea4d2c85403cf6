"""What can be checked about deploy/ without its target systems: their own linters, and agreement with the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dicom_node.database.connection import Database
from dicom_node.health.metrics import NodeCollector
from dicom_node.receiving.anteroom import MOST_WAITING
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.reading import load_settings
from dicom_node.system.lifecycle import ALIVE_FILE
from dicom_node.web.request_guard import MOST_REQUESTS
from tests.fakes.scu import free_port

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
    from dicom_node.cli.app import app

    known = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    called = re.findall(r"^ExecStart=\S+ (\S+)", unit.read_text(), re.MULTILINE)
    assert called
    assert set(called) <= known


def test_limits__of_file_descriptors_are_set_wherever_a_process_runs_for_long() -> None:
    said = "LimitNOFILE=8192\n"
    long_running = [unit for unit in UNITS if "Type=notify" in unit.read_text()]
    assert len(long_running) == 6
    assert [unit.name for unit in long_running if said not in unit.read_text()] == []
    assert "ulimits: {nofile: 8192}" in (DEPLOY / "container" / "compose.yaml").read_text()
    # Every connection and association that the settings allow, with a file each.
    assert 2 * (500 + MOST_WAITING + MOST_REQUESTS) < 8192


def test_install__is_a_sound_script() -> None:
    script = DEPLOY / "install.sh"
    run("bash", "-n", script)
    assert run("bash", script, "--help").startswith("Installs or upgrades")


def test_install__its_python_finds_what_it_imports() -> None:
    lines = re.findall(
        r"^from (?:dicom_node|spineone_core)\S* import .+$", (DEPLOY / "install.sh").read_text(), re.MULTILINE
    )
    assert lines
    for line in lines:
        run(sys.executable, "-c", line, folder=DEPLOY.parent)


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


def documents(name: str) -> list[str]:
    return (DEPLOY / "kubernetes" / name).read_text().split("\n---\n")


def test_kubernetes__every_role_has_its_probes() -> None:
    roles = [text for text in documents("node.yaml") if "kind: Deployment" in text]
    assert len(roles) == 4
    for text in roles:
        assert re.search(r"^          readinessProbe: ", text, re.MULTILINE)
        assert re.search(r"^          livenessProbe: ", text, re.MULTILINE)
        # What is probed by a file must be told its name.
        assert ("/tmp/alive -mmin" in text) == (f"{{name: {ALIVE_FILE}, value: /tmp/alive}}" in text)
    assert sum(ALIVE_FILE in text for text in roles) == 2


def test_kubernetes__the_probe_of_a_file_tells_a_fresh_one_from_an_old_one_and_from_none(tmp_path: Path) -> None:
    (command,) = {
        found for text in documents("node.yaml") for found in re.findall(r"&is_alive \[sh, -c, '(.+?)'\]", text)
    }
    alive = tmp_path / "alive"

    def is_alive() -> bool:
        return subprocess.run(["sh", "-c", command.replace("/tmp/alive", str(alive))], check=False).returncode == 0

    assert not is_alive()
    alive.touch()
    assert is_alive()
    os.utime(alive, (time.time() - 300,) * 2)
    assert not is_alive()


def test_kubernetes__no_password_is_in_the_manifests() -> None:
    for path in (DEPLOY / "kubernetes").iterdir():
        assert "kind: Secret" not in path.read_text(), path.name
        assert "change-me" not in path.read_text(), path.name
    operations = (DEPLOY.parent / "docs" / "operations.md").read_text()
    assert "create secret generic database" in operations


APPARMOR = DEPLOY / "apparmor" / "dicom-node"


def test_apparmor__the_profile_compiles() -> None:
    parser = shutil.which("apparmor_parser", path="/usr/sbin:/sbin:/usr/bin")
    if parser is None:
        pytest.skip("not installed: apparmor_parser")
    compiled = subprocess.run([parser, "-Q", "-K", "-S", APPARMOR], capture_output=True, timeout=60, check=False)
    assert compiled.returncode == 0, compiled.stderr.decode()
    assert len(compiled.stdout) > 10_000


def test_apparmor__runs_python_alone_and_every_unit_asks_for_it() -> None:
    rules = re.findall(r"^  (?!#)(.*) (\S+),$", APPARMOR.read_text(), re.MULTILINE)
    may_run = [path for path, rights in rules if "x" in rights and path.startswith(("/", "@", "owner"))]
    assert may_run == [
        "@{SPINEONE_CODE}/**/bin/python*",
        "@{SPINEONE_CODE}/**/bin/dicom-node",
        "/{usr/,usr/local/,}bin/python3*",
    ]
    may_write = [path for path, rights in rules if "w" in rights and path.startswith("owner @{SPINEONE")]
    assert may_write == ["owner @{SPINEONE_STATE}/**"]
    for unit in UNITS:
        assert "AppArmorProfile=-dicom-node\n" in unit.read_text(), unit.name


class Archive(BaseHTTPRequestHandler):
    """Says who asked for what."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.headers['Host']} {self.path}".encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_ohif__app_and_dicomweb_are_on_one_origin(tmp_path: Path) -> None:
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin") or pytest.skip("not installed: nginx")
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "index.html").write_text("the app")
    archive = ThreadingHTTPServer(("127.0.0.1", 0), Archive)
    threading.Thread(target=archive.serve_forever, daemon=True).start()
    port = free_port()
    text = (DEPLOY / "ohif" / "nginx.conf").read_text()
    for inside, here in {
        "/tmp/": f"{tmp_path}/",
        "listen 8080": f"listen 127.0.0.1:{port}",
        "/usr/share/nginx/html": f"{tmp_path}/html",
        "/etc/ohif": str(DEPLOY / "ohif"),
        "orthanc:8042": f"127.0.0.1:{archive.server_port}",
    }.items():
        assert inside in text
        text = text.replace(inside, here)
    config = tmp_path / "nginx.conf"
    config.write_text(text)
    # If root started it, its workers would run as another user, who may not look into the test's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    server = subprocess.Popen([nginx, "-c", config, "-g", f"daemon off; {user}"], stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        until(lambda: get(base)[0] == 200)
        assert get(f"{base}/app-config.js")[1] == (DEPLOY / "ohif" / "app-config.js").read_text()
        assert get(f"{base}/viewer?StudyInstanceUIDs=1.2")[1] == "the app"
        assert get(f"{base}/dicom-web/studies")[1] == f"127.0.0.1:{port} /dicom-web/studies"
        assert get(f"{base}/dicom-web/studies", method="POST")[0] == 403
        assert get(base)[2]["Cross-Origin-Embedder-Policy"] == "require-corp"
    finally:
        server.terminate()
        server.wait(timeout=10)
        archive.shutdown()


def get(url: str, method: str = "GET") -> tuple[int, str, Message]:
    request = urllib.request.Request(url, method=method, data=b"" if method == "POST" else None)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, "", error.headers
    except urllib.error.URLError:
        return 0, "", Message()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_compose__every_file_that_it_mounts_is_there() -> None:
    folder = DEPLOY / "container"
    mounted = re.findall(r"^      - (\.\S+?):", (folder / "compose.yaml").read_text(), re.MULTILINE)
    assert len(mounted) >= 8
    assert [name for name in mounted if not (folder / name).is_file()] == []


def test_compose__the_settings_in_its_environment_are_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / "container" / "compose.yaml").read_text()
    values = dict(re.findall(r"^      (SPINEONE_\w+): '(.+)'$", text, re.MULTILINE))
    assert set(values) == {"SPINEONE_PEERS", "SPINEONE_DESTINATIONS"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    config = tmp_path / "node.toml"
    config.write_text("")
    assert load_settings(config).destinations[0].host == "orthanc"
