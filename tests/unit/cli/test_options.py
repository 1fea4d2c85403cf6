"""Where commands look for the settings file, and that those that change something say which it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.cli import options
from dicom_node.cli.app import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Path]:
    """Four nodes, of which each place names one; the working folder is that of "here"."""
    found = {}
    for title in ("NAMED", "VARIABLE", "HERE", "INSTALLED"):
        folder = tmp_path / title
        assert run("init", "--dir", str(folder)) == 0
        found[title] = folder / "node.toml"
        found[title].write_text(found[title].read_text().replace('"SPINEONE"', f'"{title}"'))
    capsys.readouterr()
    monkeypatch.chdir(tmp_path / "HERE")
    monkeypatch.setattr(options, "INSTALLED_CONFIG", found["INSTALLED"])
    return found


@pytest.mark.parametrize("found", ["NAMED", "VARIABLE", "HERE", "INSTALLED"])
def test_settings__are_looked_for_in_this_order(
    nodes: dict[str, Path], found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(nodes["NAMED"])] if found == "NAMED" else []
    if found in ("NAMED", "VARIABLE"):
        monkeypatch.setenv("SPINEONE_CONFIG", str(nodes["VARIABLE"]))
    if found == "INSTALLED":
        nodes["HERE"].unlink()
    assert run("status", *arguments) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{found}  STOPPED: no process of the node is at work; version ")
    assert "settings" not in shown.err
    assert run("pause", "pacs", *arguments) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"settings {nodes[found]}"


@pytest.mark.parametrize("named", [["--config", "node.toml"], []])
def test_settings__a_file_that_is_named_is_not_replaced_by_another(
    nodes: dict[str, Path], named: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes["HERE"].unlink()
    if not named:
        monkeypatch.setenv("SPINEONE_CONFIG", "node.toml")
    assert run("status", *named) == 2
    assert "node.toml: no such settings file" in capsys.readouterr().err


def test_the_installers_place_is_the_one_that_is_looked_at() -> None:
    script = (Path(__file__).parents[3] / "deploy" / "install.sh").read_text()
    assert f"state={options.INSTALLED_CONFIG.parent} " in script
    assert f'config="$state/{options.INSTALLED_CONFIG.name}"' in script
