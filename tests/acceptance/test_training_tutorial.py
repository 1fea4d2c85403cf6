"""docs/training.md leads from a folder of DICOM to a package in the node: its commands, as they stand there."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from dicom_node.cli.app import main as node
from trainer.cli.app import app
from trainer.cli.app import main as train

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"
HEADING = "## From a folder of DICOM to a package in the node, step by step"


def commands() -> list[str]:
    """The commands of the tutorial in their order, each on one line."""
    section = DOCUMENT.read_text(encoding="utf-8").split(f"{HEADING}\n")[1].split("\n## ")[0]
    lines = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))
    return re.sub(r"\\\n\s*", "", lines).splitlines()


def run(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command; the project's own run in this process, where torch is loaded already."""
    words = shlex.split(command)
    target = Path(words[-1]) if ">" in words else None
    words = words if target is None else words[:-2]
    program = {"spineone-train": train, "dicom-node": lambda: node(words[1:])}.get(words[0])
    if program is None:
        return subprocess.run(command, shell=True, check=False).returncode
    printed = io.StringIO()
    monkeypatch.setattr("sys.argv", words)
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as ended:
        program()
    if target is not None:
        target.write_text(printed.getvalue())
    return int(ended.value.code or 0)


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("spineone-train")])
def test_tutorial__names_commands_and_options_that_exist(command: str) -> None:
    _, name, *words = shlex.split(command)
    known = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    options = {option for parameter in known.params for option in parameter.opts}
    assert sorted(word for word in words if word.startswith("--") and word not in options) == []


@pytest.mark.minutes
def test_tutorial__leads_to_a_package_that_the_node_reads_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [(command, 0) for command in commands()] == [(command, run(command, monkeypatch)) for command in commands()]
    manifest = json.loads(Path("models/our-spineone/manifest.json").read_text())
    assert (manifest["name"], manifest["version"]) == ("our-spineone", "1.0.0")
    (findings,) = Path("result").rglob("findings.json")
    found = json.loads(findings.read_text())
    assert (found["model"]["name"], found["status"], len(found["findings"])) == ("our-spineone", "analysed", 10)
    # What the text says of them.
    assert Path("inspection/inspection.html").is_file()
    assert Path("comparison/comparison.html").is_file()
    card = Path("models/our-spineone/model-card.md").read_text()
    shipped = manifest["training"]["begun_with"][0]
    assert shipped["digest"] in card
    assert "Apache-2.0" in shipped["licence"]
    assert shipped["licence"] in card
    assert shipped["data"] in card
    assert json.loads(Path("figures.json").read_text())["overlap"]["same_study_uid"] == []
