"""OHIF shows our report: its built app beside Orthanc's DICOMweb, opened in headless Chromium (`make viewers`).

A phantom study and the report of its true points are stored in Orthanc and opened in OHIF; then OHIF itself is asked which
image and which place it draws each point on. Nothing is skipped: what is missing is named, with exit status 2.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tests.peers import ORTHANC, Orthanc, free_port, running_orthanc
from tests.viewers.browser import CHROMEDRIVER, CHROMIUM, Browser, BrowserError, browsing
from tests.viewers.proxy import serving
from tests.viewers.truth import Case, make_case

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "viewers"
PACKAGE = "@ohif/app@3.13.2"
# As the npm registry states it; npm itself compares the file with it.
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TOLERANCE_MM = 0.01

_CLOSE_TOUR = """
const skip = [...document.querySelectorAll('button')].find(b => b.innerText.trim() === 'Skip all');
if (skip) { skip.click(); return true; }"""
_OPEN = """
const entry = document.querySelector('[data-series="9801"]');
if (!entry) return false;
entry.dispatchEvent(new MouseEvent('dblclick', {bubbles: true, cancelable: true, view: window, detail: 2}));
return true;"""
_ANNOTATIONS = """
const all = window.cornerstoneTools.annotation.state.getAllAnnotations();
return all.filter(a => a.metadata.toolName === 'DICOMSRDisplay').map(a => ({
  image: a.metadata.referencedImageId, kind: a.metadata.graphicType, points: a.data.handles.points}));"""
_SHOWN_SLICE = r"""
const found = document.body.innerText.match(/I:\s*\d+ \((\d+)\/(\d+)\)/);
return found ? [Number(found[1]), Number(found[2])] : null;"""


@dataclass(frozen=True)
class Seen:
    """What OHIF showed of one case."""

    name: str
    points: int
    worst_mm: float
    slice_shown: tuple[int, int]


def missing() -> list[str]:
    """What this machine lacks, each with how to get it."""
    needed = {
        ORTHANC: "apt-get install orthanc",
        DICOMWEB: "apt-get install orthanc-dicomweb",
        CHROMIUM: "apt-get install chromium",
        CHROMEDRIVER: "apt-get install chromium-driver",
    }
    lacking = [f"{path}: {how}" for path, how in needed.items() if not path.exists()]
    return lacking + ([] if shutil.which("npm") else ["npm: apt-get install npm"])


def ohif_app() -> Path:
    """The built app, fetched from the npm registry into the cache once."""
    app = CACHE / PACKAGE.replace("/", "+") / "package" / "dist"
    if not app.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", PACKAGE, "--silent"], cwd=CACHE, check=True, stdout=subprocess.DEVNULL)
        archive = CACHE / "ohif-app-3.13.2.tgz"
        _check_integrity(archive)
        with tarfile.open(archive) as tar:
            tar.extractall(app.parents[1], filter="data")
        archive.unlink()
    return app


def _check_integrity(archive: Path) -> None:
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        raise RuntimeError(f"{archive.name} is not the package that was tried")


def store(orthanc: Orthanc, files: list[Path]) -> None:
    """Put files into Orthanc; each must come back bit by bit."""
    url = f"http://127.0.0.1:{orthanc.http_port}/instances"
    for path in files:
        data = path.read_bytes()
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=60) as answer:
            assert answer.status == 200
    for instance in orthanc.get("/instances"):
        assert orthanc.file_of(instance) in {path.read_bytes() for path in files}, "Orthanc changed an object"


def look(browser: Browser, origin: str, case: Case, name: str, picture: Path) -> Seen:
    """Open the study, load the report, and ask the viewer where its points are."""
    browser.open(f"{origin}/viewer?StudyInstanceUIDs={case.exam.study_uid}")
    browser.wait(_CLOSE_TOUR, timeout_s=120, what="OHIF's first-run tour")
    browser.wait(_OPEN, what="the report among the study's series")
    try:
        browser.wait("return document.body.innerText.includes('L5/S1 disc')", what="the report's labels")
    except TimeoutError:
        browser.screenshot(picture.with_name("failed.png"))
        raise
    annotations = browser.run(_ANNOTATIONS)
    browser.run(
        "const no = [...document.querySelectorAll('button')].find(b => b.innerText.trim() === 'No'); no?.click()"
    )
    browser.wait("return !document.body.innerText.includes('continue tracking')", what="the closed question")
    _save(browser, picture)
    shown = browser.run(_SHOWN_SLICE)
    _look_at_overlay(browser, picture.with_name(f"{picture.stem}-overlay.png"))
    return Seen(name, len(annotations), _worst(annotations, case), (shown[0], shown[1]))


def _look_at_overlay(browser: Browser, picture: Path) -> None:
    browser.wait(_OPEN.replace("9801", "9802"), what="the overlay among the study's series")
    title = "return document.querySelector('[data-cy=\"viewport-overlay-top-left\"]')?.innerText.includes('overlay')"
    browser.wait(title, what="the overlay in the viewport")
    time.sleep(3)  # until its pixels are drawn
    _save(browser, picture)


def _save(browser: Browser, picture: Path) -> None:
    """As a PNG of few colours, for the repository's sake."""
    browser.screenshot(picture)
    Image.open(picture).convert("RGB").quantize(128).save(picture, optimize=True)


def _worst(annotations: list[dict[str, Any]], case: Case) -> float:
    """Largest distance (mm) between a point as OHIF places it in the patient and the truth; all on the right image."""
    truth = [finding.xyz_mm for finding in case.detection.findings]
    frame = case.detection.frame_number or 1
    worst = 0.0
    for annotation in annotations:
        assert annotation["kind"] == "POINT", annotation["kind"]
        assert annotation["image"].endswith(f"/instances/{case.detection.sop_instance_uid}/frames/{frame}"), annotation
        (point,) = annotation["points"]
        distances = [sum((a - b) ** 2 for a, b in zip(point, true, strict=True)) ** 0.5 for true in truth]
        nearest = distances.index(min(distances))
        worst = max(worst, distances[nearest])
        truth.pop(nearest)
    assert not truth, f"{len(truth)} points are not shown"
    return worst


def _look_patiently(url: str, case: Case, name: str, picture: Path) -> Seen:
    """On a machine that is very busy software rendering may take too long, or the page may crash: twice again, and said."""
    for attempt in (1, 2, 3):
        try:
            with browsing(free_port()) as browser:
                return look(browser, url, case, name, picture)
        except (TimeoutError, BrowserError) as error:
            print(f"viewers: {name}, attempt {attempt} of 3: {error}", flush=True)
    raise SystemExit(f"viewers: OHIF did not show {name}; the last picture is {picture.with_name('failed.png')}")


def run(out: Path) -> list[Seen]:
    """A classic and an enhanced multi-frame study, and the report's second form."""
    seen = []
    for name, form in (("classic", "sr"), ("enhanced", "sr"), ("comprehensive-sr", "sr-2d")):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            case = make_case(folder, enhanced=name == "enhanced")
            with running_orthanc(folder / "pacs", plugins=(DICOMWEB,)) as orthanc:
                store(
                    orthanc,
                    [*case.files, case.results[form], *(case.results[name] for name in ("overlay", "gsps", "ko"))],
                )
                app, port = ohif_app(), free_port()
                origin = serving(app, f"http://127.0.0.1:{orthanc.http_port}", port)
                with origin as url:
                    seen.append(_look_patiently(url, case, name, out / f"ohif-{name}.png"))
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=CACHE, help="folder for the screenshots")
    out = parser.parse_args().out
    if lacking := missing():
        print("viewers: cannot run, missing:", *lacking, sep="\n  ")
        return 2
    out.mkdir(parents=True, exist_ok=True)
    failed = False
    for seen in run(out):
        good = seen.points == 10 and seen.worst_mm < TOLERANCE_MM
        failed |= not good
        print(
            f"OHIF {PACKAGE}, {seen.name}: {'ok' if good else 'FAILED'}: {seen.points} points, at most "
            f"{seen.worst_mm:.6f} mm from the truth, slice {seen.slice_shown[0]} of {seen.slice_shown[1]} shown"
        )
    print(f"screenshots: {out}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
