"""The documents keep to a line length, their paths and links lead to files, and their tables name what the code knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from dicom_node.database.words import AlertKind
from trainer.datasets.formats import FORMATS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md"))
README, CHANGELOG = ROOT / "README.md", ROOT / "CHANGELOG.md"
# Programs write these, with whole sentences and tables in a line: make campaign, make protections, spineone-train.
WRITTEN_BY_PROGRAMS = {
    "docs/model-results.md",
    "docs/reproduction/fig8.md",
    "docs/reproduction/table4.md",
}
LONGEST = 120
FOLDERS = ("benchmarks", "deploy", "dicom_node", "docs", "spineone_core", "tests", "trainer")
# A file, a folder, or a decision by its number, in backticks or not.
BELOW_A_FOLDER = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w.@/-]*")
# A module by its name alone, or by the end of its path.
MODULE = re.compile(r"(?<![\w/.*-])(?:\w+/)*\w+\.py\b")
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")


def name_of(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def prose(document: Path) -> Iterator[tuple[int, str]]:
    """Number and text of the lines that are in no table, no code block and no picture, links by their text alone."""
    is_fenced = False
    for number, line in enumerate(document.read_text(encoding="utf-8").splitlines(), start=1):
        is_fence = line.startswith("```")
        is_fenced ^= is_fence
        if not (is_fence or is_fenced or line.startswith(("|", "    ", "!["))):
            yield number, LINK.sub("]", line)


def spans(document: Path) -> str:
    """The text in backticks, one span per line."""
    return "\n".join(re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8")))


def exists(path: str) -> bool:
    """Whether a file or a folder has the path; ``docs/decisions/003`` names the file that begins so."""
    found = ROOT / path
    return found.exists() or (found.parent.name == "decisions" and any(found.parent.glob(f"{found.name}-*.md")))


def modules() -> list[str]:
    return [f"/{path.relative_to(ROOT).as_posix()}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]


WRITTEN_BY_HAND = [document for document in DOCUMENTS if name_of(document) not in WRITTEN_BY_PROGRAMS]


@pytest.mark.parametrize("document", [README, CHANGELOG, *WRITTEN_BY_HAND], ids=name_of)
def test_lines__are_no_longer_than_a_reader_likes(document: Path) -> None:
    assert [(number, len(line)) for number, line in prose(document) if len(line) > LONGEST] == []


def test_written_by_programs__names_documents_that_exist() -> None:
    assert {name_of(document) for document in DOCUMENTS} >= WRITTEN_BY_PROGRAMS


@pytest.mark.parametrize("document", [README, *DOCUMENTS], ids=name_of)
def test_paths__lead_to_files(document: Path) -> None:
    text = LINK.sub("]", document.read_text(encoding="utf-8"))
    named = {path.rstrip("./") for path in BELOW_A_FOLDER.findall(text)}
    assert sorted(path for path in named if not exists(path)) == []


@pytest.mark.parametrize("document", [README, *DOCUMENTS], ids=name_of)
def test_modules_named_in_short__exist(document: Path) -> None:
    known = modules()
    named = set(MODULE.findall(spans(document)))
    assert sorted(name for name in named if not any(path.endswith(f"/{name}") for path in known)) == []


@pytest.mark.parametrize("document", [README, CHANGELOG, *DOCUMENTS], ids=name_of)
def test_links__lead_to_files(document: Path) -> None:
    targets = LINK.findall(document.read_text(encoding="utf-8"))
    local = [target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize(
    ("document", "heading", "names"),
    [
        ("operations.md", "| kind | what | it closes when |", AlertKind),
        ("training.md", "| format | folder | keypoints, classes |", FORMATS),
    ],
)
def test_tables__name_what_the_code_knows(document: str, heading: str, names: Iterable[str]) -> None:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    table = text.split(f"{heading}\n")[1].split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == sorted(names)
