"""The examples of deploy/orthanc with Debian's Orthanc: a study comes in, the node gets it, its report comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.fakes.datasets import mr_image, save
from tests.fakes.model import write_tiny_model
from tests.peers import ORTHANC, STORESCU, Orthanc, free_port, need, running_node, running_orthanc, storescu, wait_for

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "orthanc"
pytestmark = [pytest.mark.orthanc, need(ORTHANC, STORESCU)]

SETTINGS = """
[listener]
port = {port}
[[peers]]
ae_title = "ORTHANC"
addresses = ["127.0.0.1"]
[study]
quiet_seconds = 1
wait_for_series_seconds = 1
[model]
path = "{model}"
threads = 1
{destinations}
[delivery]
poll_seconds = 0.2
[worker]
poll_seconds = 0.2
[web]
enabled = false
[retention]
disk_reserve_gb = 0
"""
DESTINATION = """
[[destinations]]
name = "{name}"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {port}
"""
# The study that each of the two archives routes.
STUDIES = {"lua": "1.2.3", "rest": "1.2.4"}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Orthanc]]:
    """An Orthanc for each way to route, and one node that both route to and get their results from."""
    folder, port = tmp_path_factory.mktemp("routing"), free_port()
    common = {"DicomModalities": {"spineone": ["SPINEONE", "127.0.0.1", port]}, "StableAge": 1}
    by_lua = {**common, "LuaScripts": [str(DEPLOY / "route.lua")]}
    with (
        running_orthanc(folder / "lua", more=by_lua) as lua,
        running_orthanc(folder / "rest", more=common) as rest,
    ):
        found = {"lua": lua, "rest": rest}
        config = folder / "node.toml"
        destinations = "".join(DESTINATION.format(name=name, port=orthanc.port) for name, orthanc in found.items())
        model = write_tiny_model(folder / "model")
        config.write_text(SETTINGS.format(port=port, model=model, destinations=destinations))
        with running_node(config, folder / "node.log"):
            yield found


@contextmanager
def route_by_lua(folder: Path, orthanc: Orthanc) -> Iterator[None]:
    """Orthanc itself runs the script."""
    yield


@contextmanager
def route_by_rest(folder: Path, orthanc: Orthanc) -> Iterator[None]:
    """The script runs by itself and asks Orthanc."""
    url = f"http://127.0.0.1:{orthanc.http_port}"
    # A study that the node refuses comes first: its study UID is none, which Orthanc does not mind.
    refused = mr_image(1, study=f"{STUDIES['rest']}.7")
    refused.StudyInstanceUID = "1.2.abc"
    save(refused, folder / "refused" / "1.dcm")
    assert storescu(orthanc.port, folder / "refused", called=orthanc.ae_title).returncode == 0
    options = ["--orthanc", url, "--state", str(folder / "last"), "--every", "0.5", "--attempts", "2"]
    with (folder / "route.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, DEPLOY / "route.py", *options], stdout=log, stderr=log)
    said = folder / "route.log"
    try:
        wait_for(lambda: "not taken" in said.read_text(), timeout_s=60, what="the refusal of the first study")
        yield
        wait_for(lambda: "GIVEN UP" in said.read_text(), timeout_s=60, what="the end of the attempts")
    finally:
        process.terminate()
        process.wait(10)
    assert f"sent {STUDIES['rest']}.1" in said.read_text()
    assert f"{STUDIES['rest']}.7.1" in (folder / "last.refused").read_text()


@pytest.mark.parametrize(("name", "route"), [("lua", route_by_lua), ("rest", route_by_rest)], ids=["lua", "rest"])
def test_routing__the_report_of_a_routed_study_comes_back(
    name: str,
    route: Callable[[Path, Orthanc], AbstractContextManager[None]],
    archives: dict[str, Orthanc],
    tmp_path: Path,
) -> None:
    orthanc, study = archives[name], STUDIES[name]
    for number in range(1, 4):
        save(mr_image(number, study=study), tmp_path / "exam" / f"{number}.dcm")
    with route(tmp_path, orthanc):
        assert storescu(orthanc.port, tmp_path / "exam", called=orthanc.ae_title).returncode == 0
        found = wait_for(
            lambda: orthanc.instances(study).get("SR"), timeout_s=90, what="the report of the routed study"
        )
        assert len(found) == 1
