"""Takes each protection of `protection_table` out of a copy of the source, and checks whether its row's tests notice.

    python -m tests.faults.protections [--rows 1 2 3] [--write docs/protections.md]

A test that passes both with and without the protection proves nothing. Only a failed assertion, an exception from the
node or a time-out counts: code that does not compile, has an unknown name or cannot be imported is a mistake in the
table.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.faults.protection_table import NOT_OURS, PROTECTIONS, Protection
from tests.faults.table import Row, row_of

ROOT = Path(__file__).parents[2]
# How long one test may take, and all tests of a row together (seconds).
TEST_LIMIT_S, ROW_LIMIT_S = 240, 900
FAILS, NOT_NOTICED, BROKEN = "fails without it", "NOT NOTICED", "broken patch"
# How failures begin that say nothing about the protection.
_MISTAKES = ("NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError")


@dataclass(frozen=True)
class Seen:
    """What the tests of a row said: ``test`` is the first that failed, ``why`` its first line."""

    verdict: str
    test: str = ""
    why: str = ""


# ---------------------------------------------------------------- the copy


class Copy:
    """A copy of the working tree's source in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, capture_output=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        # No compiled files are written: one with the same second and size as the patched source would be taken for it.
        self._environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
        self._check_that_it_is_used()

    def _check_that_it_is_used(self) -> None:
        program = "import dicom_node, spineone_core, tests; print(*(p.__path__[0] for p in (dicom_node, spineone_core, tests)))"
        for place in self._run([sys.executable, "-c", program], 60).stdout.split():
            if not Path(place).is_relative_to(self.folder):
                raise SystemExit(f"the tests would use {place} and not the copy")

    @contextmanager
    def without(self, protection: Protection) -> Iterator[None]:
        """The copy with a protection taken out; whole again afterwards."""
        changed = taken_out(protection, self.folder)
        whole = {name: (self.folder / name).read_text(encoding="utf-8") for name in changed}
        try:
            for name, text in changed.items():
                (self.folder / name).write_text(text, encoding="utf-8")
            yield
        finally:
            for name, text in whole.items():
                (self.folder / name).write_text(text, encoding="utf-8")

    def names_are_known(self, protection: Protection) -> bool:
        """Whether the patched files use no name that they do not have."""
        files = {patch.file for patch in protection.patches if patch.file.endswith(".py")}
        if not files:
            return True
        return (
            self._run(
                [sys.executable, "-m", "ruff", "check", "-q", "--isolated", "--select=F821", *files], 60
            ).returncode
            == 0
        )

    def test(self, row: Row) -> Seen:
        """Run a row's tests until one fails."""
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command += [f"--timeout={TEST_LIMIT_S}", f"--junitxml={report}", *(f"tests/{name}" for name in row.tests)]
        try:
            done = self._run(command, ROW_LIMIT_S)
        except subprocess.TimeoutExpired:
            return Seen(FAILS, why=f"time-out after {ROW_LIMIT_S} s")
        if done.returncode not in (0, 1) or not report.is_file():
            return Seen(BROKEN, why=f"pytest ended with status {done.returncode}: {done.stdout[-500:]}")
        return read_report(report.read_text(encoding="utf-8"))

    def _run(self, command: Sequence[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command in the copy; at its end, or at the limit, nothing that it started is left."""
        with subprocess.Popen(
            command, cwd=self.folder, env=self._environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                output, _ = process.communicate(timeout=limit_s)
            finally:
                _end_all(process.pid)
        return subprocess.CompletedProcess(command, process.returncode, output)


def _end_all(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def taken_out(protection: Protection, root: Path) -> dict[str, str]:
    """The files of a protection, with the protection taken out.

    Raises
    ------
    ValueError
        If a text to take out is not there exactly once.
    """
    texts: dict[str, str] = {}
    for patch in protection.patches:
        text = texts.get(patch.file) or (root / patch.file).read_text(encoding="utf-8")
        if text.count(patch.old) != 1:
            raise ValueError(f"{patch.file} holds {text.count(patch.old)} times: {patch.old}")
        texts[patch.file] = text.replace(patch.old, patch.new)
    return texts


# ---------------------------------------------------------------- what the tests said


def read_report(xml: str) -> Seen:
    """The first failure of pytest's JUnit report."""
    cases = ElementTree.fromstring(xml).iter("testcase")
    ran = 0
    for case in cases:
        ran += case.find("skipped") is None
        for kind in ("failure", "error"):
            found = case.find(kind)
            if found is not None:
                return _judge(kind, f"{case.get('classname', '').split('.')[-1]}::{case.get('name')}", found)
    return Seen(NOT_NOTICED) if ran else Seen(BROKEN, why="all tests were skipped")


def _judge(kind: str, test: str, found: ElementTree.Element) -> Seen:
    message = found.get("message", "")
    # A fixture's check after the test counts too; a fixture that fails before the test means that nothing was tested.
    is_check = kind == "failure" or (message.startswith("failed on teardown") and "AssertionError" in message)
    is_mistake = re.search(rf"\b({'|'.join(_MISTAKES)})\b", message) is not None
    first = message.strip().splitlines()[0] if message.strip() else ""
    return Seen(FAILS if is_check and not is_mistake else BROKEN, test, first[:200])


def try_out(copy: Copy, protection: Protection) -> Seen:
    """Take one protection out and ask its row's tests."""
    row = row_of(protection.row)
    with copy.without(protection):
        if not copy.names_are_known(protection):
            return Seen(BROKEN, why="a name is unknown")
        return copy.test(row)


# ---------------------------------------------------------------- the document

_HEAD = """# What happens without each protection

For those who ask what each protection is worth. `make protections` writes this document. It takes the protections of
the node out of its source, one by one (`tests/faults/protection_table.py`), and runs the tests of the fault that each
is there for (docs/reliability.md). Without a test that fails when it is gone, a protection would be a belief.

| # | fault | taken out | file | noticed by |
| --- | --- | --- | --- | --- |
"""


def document(lines: dict[tuple[int, str], str]) -> str:
    """docs/protections.md, from a line for each protection that was tried."""
    known = [(p.row, p.name) for p in PROTECTIONS]
    tried = [lines[key] for key in sorted(known, key=lambda key: (key[0], known.index(key))) if key in lines]
    others = [
        "",
        "Not ours:",
        "",
        *(
            textwrap.fill(f"- {row} ({row_of(row).fault}): {why}", width=120, subsequent_indent="  ")
            for row, why in sorted(NOT_OURS.items())
        ),
    ]
    return _HEAD + "\n".join([*tried, *others]) + "\n"


def line_of(protection: Protection, seen: Seen) -> str:
    """A row of the table."""
    files = ", ".join(dict.fromkeys(f"`{patch.file}`" for patch in protection.patches))
    by = f"`{seen.test.split('::')[-1].split('[')[0]}`" if seen.verdict == FAILS else f"**{seen.verdict}**"
    return f"| {protection.row} | {row_of(protection.row).fault} | {protection.name} | {files} | {by} |"


def lines_of(text: str) -> dict[tuple[int, str], str]:
    """The lines of a document, by row and protection."""
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines())
    numbered = [(c, line) for c, line in zip(cells, text.splitlines(), strict=True) if len(c) == 5 and c[0].isdigit()]
    return {(int(c[0]), c[2]): line for c, line in numbered}


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="*", help="of the table of faults; all of them otherwise")
    parser.add_argument("--write", type=Path, help="update this document")
    asked = parser.parse_args()
    chosen = [p for p in PROTECTIONS if not asked.rows or p.row in asked.rows]
    with tempfile.TemporaryDirectory(prefix="protections-") as folder:
        copy = Copy(Path(folder).resolve())
        for row in sorted({p.row for p in chosen}):
            whole = copy.test(row_of(row))
            if whole.verdict != NOT_NOTICED:
                raise SystemExit(f"row {row} does not pass as it is: {whole.test} {whole.why}")
        lines, bad = (
            lines_of(asked.write.read_text(encoding="utf-8")) if asked.write and asked.write.exists() else {},
            0,
        )
        for protection in chosen:
            began = time.monotonic()
            seen = try_out(copy, protection)
            bad += seen.verdict != FAILS
            print(
                f"{protection.row:2}  {seen.verdict:16}  {protection.name}  [{time.monotonic() - began:.0f} s]",
                flush=True,
            )
            print(f"    {seen.test}  {seen.why}", flush=True)
            lines[protection.row, protection.name] = line_of(protection, seen)
            if asked.write:
                asked.write.write_text(document(lines), encoding="utf-8")
    print(f"{len(chosen)} protections taken out; {bad} not noticed or broken")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
