"""What `make` says before it does something that takes minutes. Nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["install", "demo", "test"])
def test_install__says_what_is_fetched_and_shows_the_progress(target: str, tmp_path: Path) -> None:
    command = ["make", "--dry-run", target, f"VENV={tmp_path / 'venv'}", "PIP_FLAGS="]
    # A `make` that runs the tests hands its own flags down.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    steps = done.stdout.splitlines()
    (pip,) = (number for number, step in enumerate(steps) if " pip install " in step)
    said = "\n".join(step for step in steps[:pip] if "echo" in step)
    for words in ("pip fetches", "MB", "minutes"):
        assert words in said
    assert not {"-q", "--quiet", "--progress-bar"} & set(steps[pip].split())
    assert not list(tmp_path.iterdir())
