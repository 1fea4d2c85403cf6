"""An exam that Orthanc routes to the node series by series or as a whole: one report and one overlay series in the archive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spineone_core.phantom.dicom import WrittenExam, write_exam
from tests.peers import (
    ORTHANC,
    STORESCU,
    Orthanc,
    free_port,
    need,
    node_status,
    running_node,
    running_orthanc,
    storescu,
    wait_for,
)

pytestmark = [pytest.mark.orthanc, need(ORTHANC, STORESCU)]

# The rules on time of a new node (30 s and 600 s), and the pauses between series (30 to 45 s), at a fifteenth.
PAUSE_S = 3.0
SETTINGS = """
[listener]
port = {port}
[[peers]]
ae_title = "ORTHANC"
addresses = ["127.0.0.1"]
[study]
quiet_seconds = 2
wait_for_series_seconds = 40
[model]
threads = 1
[[destinations]]
name = "pacs"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = {orthanc}
[delivery]
poll_seconds = 0.2
[worker]
poll_seconds = 0.2
[web]
enabled = false
[retention]
disk_reserve_gb = 0
"""
# Routes one study series by series, and the other one as a whole. Our results make the study stable once more, as in a
# hospital: then Orthanc sends all of it again.
SCRIPT = """
local function send(id) RestApiPost("/modalities/spineone/store", DumpJson({{ Resources = {{ id }}, Synchronous = false }})) end
function OnStableSeries(id, tags, metadata)
  local study = ParseJson(RestApiGet("/series/" .. id .. "/study"))
  if tags["Modality"] == "MR" and study["MainDicomTags"]["StudyInstanceUID"] == "{series}" then send(id) end
end
function OnStableStudy(id, tags, metadata)
  if tags["StudyInstanceUID"] == "{stable}" then send(id) end
end
"""


class Site(NamedTuple):
    """An archive that routes to a node, the node's settings, and two exams that the archive does not have yet."""

    archive: Orthanc
    config: Path
    by_series: WrittenExam
    as_a_whole: WrittenExam


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("arrival"), free_port()
    by_series, as_a_whole = (write_exam(folder / f"exam{seed}", seed) for seed in (11, 12))
    script = folder / "route.lua"
    script.write_text(SCRIPT.format(series=by_series.study_uid, stable=as_a_whole.study_uid))
    more = {
        "DicomModalities": {"spineone": ["SPINEONE", "127.0.0.1", port]},
        "StableAge": 1,
        "LuaScripts": [str(script)],
    }
    with running_orthanc(folder / "orthanc", more=more) as archive:
        config = folder / "node.toml"
        config.write_text(SETTINGS.format(port=port, orthanc=archive.port))
        with running_node(config, folder / "node.log"):
            yield Site(archive, config, by_series, as_a_whole)


def send(site: Site, exam: WrittenExam, *series: str) -> None:
    paths = [path for name in series for path in exam.files[name]]
    assert storescu(site.archive.port, *paths, called=site.archive.ae_title).returncode == 0


def results(site: Site, study: str) -> dict[str, int]:
    """How many series of results the archive has, by modality."""
    found: dict[str, int] = {}
    for series in site.archive.get("/series?expand"):
        parent = site.archive.get(f"/studies/{series['ParentStudy']}")["MainDicomTags"]["StudyInstanceUID"]
        modality = series["MainDicomTags"]["Modality"]
        if parent == study and modality != "MR":
            found[modality] = found.get(modality, 0) + 1
    return found


def seen(site: Site, exam: WrittenExam) -> dict[str, Any]:
    """The exam as the node shows it; empty if it has none of it."""
    return next((row for row in node_status(site.config)["studies"] if row["study_uid"] == exam.study_uid), {})


def is_done(site: Site, exam: WrittenExam) -> bool:
    """Whether all images of the exam are here, analysed, and what was made is sent."""
    row, images = seen(site, exam), sum(len(paths) for paths in exam.files.values())
    return bool(row) and (row["instances"], row["state"], row["to_send"]) == (images, "analysed", 0)


def test_series_by_series__nothing_before_the_series_that_is_read(site: Site) -> None:
    exam = site.by_series
    send(site, exam, "localiser")
    row = wait_for(lambda: (r := seen(site, exam)).get("reason") and r, timeout_s=60, what="a look at the localiser")
    assert (row["state"], row["reason"].startswith("waits for a series until ")) == ("waiting", True)
    for series in ("t2", "t1", "axial"):
        assert max(results(site, exam.study_uid).values(), default=0) <= 1
        send(site, exam, series)
        time.sleep(PAUSE_S)
    check_the_end(site, exam)


def test_stable_study__the_same(site: Site) -> None:
    exam = site.as_a_whole
    send(site, exam, "localiser", "t2", "t1", "axial")
    check_the_end(site, exam)


def check_the_end(site: Site, exam: WrittenExam) -> None:
    """One report and one series of pictures, also after the time in which another one would have come."""
    wait_for(lambda: is_done(site, exam), timeout_s=180, what="the exam's result")
    time.sleep(3 * PAUSE_S)
    wait_for(lambda: is_done(site, exam), timeout_s=60, what="the exam's result at rest")
    assert results(site, exam.study_uid) == {"SR": 1, "OT": 1}
    assert node_status(site.config)["alerts"] == []
