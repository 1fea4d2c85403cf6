"""Every program says its version, and the files that name the release agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import dicom_node.cli.app
import spineone_core.cli
import trainer.cli.app
from spineone_core import version

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("program", "app"),
    [
        ("dicom-node", dicom_node.cli.app.app),
        ("spineone", spineone_core.cli.app),
        ("spineone-train", trainer.cli.app.app),
    ],
)
def test_programs__print_name_and_version(program: str, app: typer.Typer) -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"{program} {version.software_version()}\n")
    # Without arguments they still explain themselves.
    assert "--version" in CliRunner().invoke(app, []).output


def test_version__of_a_bare_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "DISTRIBUTION", "no-such-distribution")
    assert version.software_version() == "0+source"


def test_release__is_the_same_in_every_file_that_names_it() -> None:
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == release
    assert f'newTag: "{release}"' in (ROOT / "deploy" / "kubernetes" / "kustomization.yaml").read_text()
