"""The import rule of the design: trainer -> spineone_core <- dicom_node, five layers inside the node."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("spineone_core", "trainer", "dicom_node")

# What each package may import of the others.
ALLOWED = {"spineone_core": set(), "trainer": {"spineone_core"}, "dicom_node": {"spineone_core"}}

LAYERS: tuple[set[str], ...] = (
    {"settings", "settings_text", "errors", "identifiers", "schema", "migrations", "log", "files"}
    | {
        "alerts",
        "headers",
        "lifecycle",
        "pixels",
        "remote",
        "commitment_messages",
        "receivers",
        "audit_message",
        "bounded_dimse",
    },
    {"instances", "studies", "jobs", "outbox", "commitments", "promises", "overview", "heartbeats"}
    | {"notices", "digest", "audit", "audit_transfers"},
    {"envelope", "reports", "overlays", "presentation", "key_object", "gate", "deidentify"},
    {
        "associations",
        "worker",
        "delivery",
        "prover",
        "answers",
        "retrieve",
        "scheduler",
        "retention",
        "web",
        "notifier",
        "audit_repository",
        "census",
    },
    {"cli", "supervisor", "demo", "process", "backup", "export"},
)
# Layers whose modules never import each other.
ISOLATED = {3}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Absolute dotted names that a file imports, at any depth of its code."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer_of(module: str) -> int:
    for index, layer in enumerate(LAYERS):
        if module in layer:
            return index
    raise AssertionError(f"dicom_node.{module} stands in no layer: add it to LAYERS and to docs/architecture.md")


@pytest.mark.parametrize("package", PACKAGES)
def test_package__imports_only_what_the_rule_allows(package: str) -> None:
    for path in modules(package):
        for name in imports(path):
            top = name.split(".")[0]
            if top in PACKAGES and top != package:
                assert top in ALLOWED[package], f"{path.relative_to(ROOT)} imports {name}"


def test_layers__name_what_there_is() -> None:
    there = {
        path.stem for path in (ROOT / "dicom_node").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {module for layer in LAYERS for module in layer} == there - {"__init__"}


def test_node__layers_import_only_earlier_ones() -> None:
    checked = 0
    for path in modules("dicom_node"):
        parts = path.relative_to(ROOT / "dicom_node").with_suffix("").parts
        if parts[0] == "__init__":
            continue
        own = layer_of(parts[0])
        for name in imports(path):
            pieces = name.split(".")
            if pieces[0] != "dicom_node" or len(pieces) < 2 or pieces[1] == parts[0]:
                continue
            other = layer_of(pieces[1])
            checked += 1
            assert other <= own, f"dicom_node.{parts[0]} (layer {own + 1}) imports {pieces[1]} (layer {other + 1})"
            assert not (own in ISOLATED and other == own), f"processes import each other: {parts[0]} -> {pieces[1]}"
    assert checked > 10


def test_node__only_the_worker_imports_the_detector() -> None:
    users = {
        path.stem
        for path in modules("dicom_node")
        if any(name.startswith("spineone_core.detection.detector") for name in imports(path))
    }
    assert users == {"worker"}


@pytest.mark.parametrize(
    "module",
    [
        "associations",
        "delivery",
        "notifier",
        "census",
        "prover",
        "answers",
        "scheduler",
        "web.server",
        "reports",
        "overlays",
        "gate",
    ],
)
def test_process__never_loads_torch(module: str) -> None:
    code = f"import sys, dicom_node.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_listener__never_loads_web_libraries() -> None:
    code = (
        "import sys, dicom_node.associations, dicom_node.heartbeats; "
        "sys.exit(bool({'starlette', 'uvicorn', 'jinja2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
