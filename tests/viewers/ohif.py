"""OHIF shows our reports: its built app beside Orthanc's DICOMweb, opened in headless Chromium (`make viewers`).

The phantom studies of `tests.variety` and their results are stored in Orthanc and opened in OHIF, one after the other;
then OHIF itself is asked which image it shows and where in the patient it draws each point. What is missing is named,
with exit status 2.
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tests.peers import ORTHANC, Orthanc, free_port, running_orthanc
from tests.variety import VARIETY, Case, Variant, make_case
from tests.viewers.browser import CHROMEDRIVER, CHROMIUM, Browser, BrowserError, browsing
from tests.viewers.proxy import serving

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "viewers"
PACKAGE = "@ohif/app@3.13.2"
# As the npm registry states it; npm itself compares the file with it.
INTEGRITY = "sha512-WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TOLERANCE_MM = 0.01
# The report's second form is looked at with the classic study.
SECOND_FORM = "comprehensive-sr"
_SECOND_SEED = 79

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
_SHOWN_IMAGE = """
const viewport = window.cornerstone.getRenderingEngines()[0].getViewports()[0];
return viewport.getCurrentImageId();"""
_LABELS = "return document.body.innerText.includes('L5/S1 disc')"
_CLOSE_QUESTION = """
const no = [...document.querySelectorAll('button')].find(b => b.innerText.trim() === 'No');
no?.click();
return !document.body.innerText.includes('continue tracking');"""


@dataclass(frozen=True)
class Seen:
    """What OHIF showed of one case."""

    name: str
    points: int
    worst_mm: float
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.points == 10 and self.worst_mm < TOLERANCE_MM


class UnreachableError(Exception):
    """The npm registry did not give the package."""


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
    """The built app, fetched from the npm registry into the cache once.

    Raises
    ------
    UnreachableError
        If the registry cannot be reached.
    """
    app = CACHE / PACKAGE.replace("/", "+") / "package" / "dist"
    if not app.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", PACKAGE, "--silent", "--fetch-retries=1", "--fetch-timeout=60000"]
        try:
            subprocess.run(command, cwd=CACHE, check=True, stdout=subprocess.DEVNULL, timeout=300)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise UnreachableError(f"{PACKAGE} could not be fetched: {error}") from None
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
    """Put files into Orthanc."""
    for path in files:
        orthanc.get("/instances", path.read_bytes())


def look(browser: Browser, origin: str, case: Case, kind: str, picture: Path) -> Seen:
    """Open the study, load the report, and ask the viewer where its points are."""
    started = time.monotonic()
    browser.open(f"{origin}/viewer?StudyInstanceUIDs={case.exam.study_uid}")
    if browser.is_fresh:
        browser.wait(_CLOSE_TOUR, timeout_s=120, what="OHIF's first-run tour")
        browser.is_fresh = False
    browser.wait(_OPEN, timeout_s=120, what="the report among the study's series")
    browser.wait(_LABELS, timeout_s=120, what="the report's labels")
    browser.wait(_CLOSE_QUESTION, what="the closed question")
    shown = browser.wait(_SHOWN_IMAGE, what="the image in the viewport")
    assert shown.endswith(_frame(case)), f"{kind}: OHIF shows {shown}"
    worst, points = _worst(browser.run(_ANNOTATIONS), case)
    _save(browser, picture)
    return Seen(kind, points, worst, time.monotonic() - started)


def _frame(case: Case) -> str:
    return f"/instances/{case.detection.sop_instance_uid}/frames/{case.detection.frame_number or 1}"


def look_at_overlay(browser: Browser, picture: Path) -> None:
    """The same study's overlay."""
    browser.wait(_OPEN.replace("9801", "9802"), what="the overlay among the study's series")
    title = "return document.querySelector('[data-cy=\"viewport-overlay-top-left\"]')?.innerText.includes('overlay')"
    browser.wait(title, what="the overlay in the viewport")
    time.sleep(3)  # until its pixels are drawn
    _save(browser, picture)


def _save(browser: Browser, picture: Path) -> None:
    """As a PNG of few colours, for the repository's sake."""
    browser.screenshot(picture)
    Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)


def _worst(annotations: list[dict[str, Any]], case: Case) -> tuple[float, int]:
    """The largest distance (mm) between a point in OHIF (in patient space) and the truth, and the number of points."""
    truth = [finding.xyz_mm for finding in case.detection.findings]
    worst = 0.0
    for annotation in annotations:
        assert annotation["kind"] == "POINT", annotation["kind"]
        assert annotation["image"].endswith(_frame(case)), annotation
        (point,) = annotation["points"]
        distances = [sum((a - b) ** 2 for a, b in zip(point, true, strict=True)) ** 0.5 for true in truth]
        nearest = distances.index(min(distances))
        worst = max(worst, distances[nearest])
        truth.pop(nearest)
    assert not truth, f"{len(truth)} points are not shown"
    return worst, len(annotations)


class Viewer:
    """A browser that is started when it is needed, and again after each failure."""

    def __init__(self, origin: str, out: Path) -> None:
        self._origin, self._out = origin, out
        self._session: Any = None
        self._browser: Browser | None = None

    def _open(self) -> Browser:
        if self._browser is None:
            self._session = browsing(free_port())
            self._browser = self._session.__enter__()
        return self._browser

    def close(self) -> None:
        if self._browser is not None:
            self._browser = None
            self._session.__exit__(None, None, None)

    def see(self, name: str, case: Case) -> Seen:
        """Software rendering may take too long on a busy machine, or the page may crash: try twice more, and say so."""
        for attempt in (1, 2, 3):
            try:
                seen = look(self._open(), self._origin, case, name, self._out / f"ohif-{name}.png")
                if name == "classic":
                    look_at_overlay(self._open(), self._out / f"ohif-{name}-overlay.png")
                return seen
            except (TimeoutError, BrowserError) as error:
                print(f"viewers: {name}, attempt {attempt} of 3: {error}", flush=True)
                self._give_up(self._out / f"failed-{name}.png")
        raise SystemExit(f"viewers: OHIF did not show {name}; the last picture is {self._out / f'failed-{name}.png'}")

    def _give_up(self, picture: Path) -> None:
        with suppress(BrowserError, OSError):
            self._open().screenshot(picture)
        self.close()


@contextmanager
def viewing(orthanc: Orthanc, out: Path) -> Iterator[Viewer]:
    """OHIF in front of an Orthanc."""
    with serving(ohif_app(), f"http://127.0.0.1:{orthanc.http_port}", free_port()) as origin:
        viewer = Viewer(origin, out)
        try:
            yield viewer
        finally:
            viewer.close()


def run(out: Path, names: list[str]) -> Iterator[Seen]:
    """Every kind of study, and the report's second form."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with running_orthanc(folder / "pacs", plugins=(DICOMWEB,)) as orthanc, viewing(orthanc, out) as viewer:
            for name in names:
                second = name == SECOND_FORM
                case = make_case(folder / name, Variant(_SECOND_SEED, {"slices": 3}) if second else VARIETY[name])
                hidden = {"report_3d", "report" if second else "report_2d"}
                store(orthanc, [*case.files, *(path for role, path in case.results.items() if role not in hidden)])
                yield viewer.see(name, case)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=CACHE, help="folder for the screenshots")
    parser.add_argument("--offline-ok", action="store_true", help="no failure if the npm registry cannot be reached")
    parser.add_argument("names", nargs="*", help=f"kinds of studies; all: {', '.join([*VARIETY, SECOND_FORM])}")
    arguments = parser.parse_args()
    if lacking := missing():
        print("viewers: cannot run, missing:", *lacking, sep="\n  ")
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        ohif_app()
    except UnreachableError as error:
        print(f"viewers: NOT RUN, OHIF was not looked at: {error}")
        return 0 if arguments.offline_ok else 3
    good = True
    for seen in run(arguments.out, arguments.names or [*VARIETY, SECOND_FORM]):
        good &= seen.is_good
        print(
            f"OHIF {PACKAGE}, {seen.name}: {'ok' if seen.is_good else 'FAILED'}: {seen.points} points on the right slice, "
            f"at most {seen.worst_mm:.6f} mm from the truth ({seen.seconds:.0f} s)",
            flush=True,
        )
    print(f"screenshots: {arguments.out}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
