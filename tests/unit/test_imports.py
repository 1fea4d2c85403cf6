"""The import rules: trainer -> spineone_core <- dicom_node, and one order of the folders inside each of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What each package may import from the others.
ALLOWED = {"spineone_core": set(), "trainer": {"spineone_core"}, "dicom_node": {"spineone_core"}}

# Folders and flat files of each package, ground first: a module imports from its own folder and from those before it.
ORDER: dict[str, tuple[str, ...]] = {
    "spineone_core": (
        "anatomy",
        "arrays",
        "strict_json",
        "findings",
        "backbones",
        "network",
        "imaging",
        "detection",
        "drawing",
        "phantom",
        "version",
        "cli",
    ),
    "trainer": (
        "datasets",
        "samples",
        "curation",
        "evaluation",
        "training",
        "volumes",
        "recipes",
        "reproduce",
        "cli",
    ),
    "dicom_node": (
        "errors",
        "system",
        "database",
        "settings",
        "dicom",
        "dicomweb",
        "alerts",
        "audit",
        "images",
        "results",
        "gate",
        "delivery",
        "analysis",
        "commitment",
        "receiving",
        "upkeep",
        "health",
        "web",
        "processes",
        "demo",
        "cli",
    ),
}

# Modules that run as processes, threads or timers of the node: only `processes.roles` puts them together.
PROCESS_MODULES = (
    "receiving.listener",
    "analysis.worker",
    "delivery.deliverer",
    "commitment.prover",
    "commitment.answers",
    "alerts.notifier",
    "receiving.census",
    "receiving.pull",
    "upkeep.retention",
    "audit.repository",
    "processes.scheduler",
    "web.server",
    "web.stow_server",
)
# Libraries that a process loads only if it needs them: `listen` and `deliver` load none of these.
LARGE = ("torch", "starlette", "uvicorn", "jinja2", "highdicom", "scipy", "dicomweb_client")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    """Dotted name of a file, without its package."""
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(part for part in parts if part != "__init__")


@cache
def imports(path: Path) -> frozenset[str]:
    """Absolute dotted names that a file imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def inner_imports(package: str) -> list[tuple[str, str]]:
    """Pairs (importing module, imported name) inside a package, both without its name."""
    found = []
    for path in modules(package):
        for name in imports(path):
            top, _, rest = name.partition(".")
            if top == package and name_of(path):
                found.append((name_of(path), rest))
    return found


@pytest.mark.parametrize("package", ORDER)
def test_package__imports_only_what_the_rule_allows(package: str) -> None:
    for path in modules(package):
        for name in imports(path):
            top = name.split(".")[0]
            if top in ORDER and top != package:
                assert top in ALLOWED[package], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", ORDER)
def test_order__names_what_there_is(package: str) -> None:
    there = {
        path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set(ORDER[package]) == there - {"__init__"}


@pytest.mark.parametrize("package", ORDER)
def test_order__is_the_one_that_the_document_gives(package: str) -> None:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert f"| `{package}` | {', '.join(ORDER[package])} |" in document


@pytest.mark.parametrize("package", ORDER)
def test_order__nothing_imports_what_comes_after_it(package: str) -> None:
    order = ORDER[package]
    pairs = inner_imports(package)
    wrong = [
        f"{package}.{own} imports {other}"
        for own, other in pairs
        if order.index(other.split(".")[0]) > order.index(own.split(".")[0])
    ]
    assert wrong == []
    assert len(pairs) > 50


@pytest.mark.parametrize("package", ORDER)
def test_files__are_short(package: str) -> None:
    """docs/decisions/014: longer than this, a file holds several nouns."""
    long = {name_of(path): count for path in modules(package) if (count := len(path.read_bytes().splitlines())) > 400}
    assert long == {}


def test_modules__import_in_no_circle() -> None:
    """There are no circles, even inside a folder or by imports inside functions."""
    names = {f"{package}.{name_of(path)}": path for package in ORDER for path in modules(package) if name_of(path)}
    imported = {
        name: {own for other in imports(path) if (own := _module_of(other, names)) and own != name}
        for name, path in names.items()
    }
    open_ones: dict[str, None] = {}
    done: set[str] = set()

    def visit(name: str) -> None:
        assert name not in open_ones, f"circle: {' -> '.join([*open_ones, name])}"
        if name not in done:
            open_ones[name] = None
            for other in sorted(imported[name]):
                visit(other)
            del open_ones[name]
            done.add(name)

    for name in names:
        visit(name)
    assert done == names.keys()


def _module_of(imported: str, names: dict[str, Path]) -> str | None:
    """The module that an imported name is or belongs to; None for a foreign module."""
    return next((name for name in (imported, imported.rpartition(".")[0]) if name in names), None)


@pytest.mark.parametrize("package", ORDER)
def test_folders__are_two_deep_and_their_init_files_empty(package: str) -> None:
    for path in modules(package):
        parts = path.relative_to(ROOT / package).parts
        if parts[:2] == ("database", "migrations"):
            continue
        assert len(parts) <= 2, f"{path.relative_to(ROOT)} lies too deep"
        if path.name == "__init__.py" and parts[0] != "cli" and len(parts) == 2:
            assert path.read_text(encoding="utf-8") == "", f"{path.relative_to(ROOT)} is not empty"


def test_processes__never_import_each_other() -> None:
    for own, other in inner_imports("dicom_node"):
        if own in PROCESS_MODULES:
            for process in PROCESS_MODULES:
                assert own == process or not f"{other}.".startswith(f"{process}."), f"{own} imports {process}"


def test_processes__only_roles_puts_them_together() -> None:
    together: dict[str, set[str]] = {}
    for own, other in inner_imports("dicom_node"):
        processes = {process for process in PROCESS_MODULES if f"{other}.".startswith(f"{process}.")}
        together.setdefault(own, set()).update(processes)
    assert {own for own, processes in together.items() if len(processes) > 1} == {"processes.roles"}
    assert len(together["processes.roles"]) == len(PROCESS_MODULES)


def test_processes__are_named_as_they_are() -> None:
    for name in PROCESS_MODULES:
        assert (ROOT / "dicom_node" / f"{name.replace('.', '/')}.py").is_file(), name


def test_node__only_one_module_imports_the_detector() -> None:
    users = {
        name_of(path)
        for path in modules("dicom_node")
        if any(name.startswith("spineone_core.detection.detector") for name in imports(path))
    }
    assert users == {"analysis.detector"}


# Imports its arguments one after the other and prints what each has newly brought of the libraries in question.
LOADS = """
import importlib, sys
heavy = {"torch", "starlette", "uvicorn", "jinja2", "dicomweb_client", "spineone_core.detection.detector"}
for name in sys.argv[1:]:
    before = heavy & set(sys.modules)
    importlib.import_module(f"dicom_node.{name}")
    print(name, *sorted(heavy & set(sys.modules) - before))
"""


def loaded(*names: str) -> dict[str, list[str]]:
    """What modules of the node load of the libraries that only some of its processes need, in one process for all of them."""
    command = [sys.executable, "-c", LOADS, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name: libraries for name, *libraries in map(str.split, done.stdout.splitlines())}


def test_listener__never_loads_web_libraries_torch_or_the_detector() -> None:
    assert loaded("receiving.listener", "health.heartbeats") == {"receiving.listener": [], "health.heartbeats": []}


def test_processes__never_load_torch() -> None:
    """One of them brings the web libraries; none brings torch, whatever another one has imported already."""
    names = (
        "receiving.listener",
        "delivery.deliverer",
        "alerts.notifier",
        "receiving.census",
        "commitment.prover",
        "commitment.answers",
        "processes.scheduler",
        "results.report",
        "results.overlay",
        "gate.check",
        "web.server",
        "web.stow_server",
    )
    found = loaded(*names)
    assert tuple(found) == names
    assert [name for name, libraries in found.items() if "torch" in libraries] == []


def test_commands__load_nothing_that_one_process_alone_needs() -> None:
    """Every process of the node is a command, so each imports all commands."""
    code = f"import sys, dicom_node.cli; print(*{{*{LARGE}}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
