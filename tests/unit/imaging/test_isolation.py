"""The child process that decodes: what it returns, and that its death is an error and no more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spineone_core.imaging import children
from spineone_core.imaging.isolation import DecoderError, decode_isolated


def fake_interpreter(folder: Path, script: str) -> str:
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", "exit status 3"),
        ("kill -ABRT $$", "exit status -6"),
        ("printf 'Ewhy not'", "why not"),
        ("printf 'A'", "incomplete"),
        ("printf 'Ajunk'", "incomplete"),
        ("exec sleep 30", "longer than"),
    ],
)
def test_a_child_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, message: str) -> None:
    monkeypatch.setattr(sys, "executable", fake_interpreter(tmp_path, script))
    monkeypatch.setattr(children, "TIME_LIMIT_S", 1)
    with pytest.raises(DecoderError, match=message):
        list(decode_isolated([(tmp_path / "image.dcm", [0])], (8, 8)))


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello")
    with pytest.raises(DecoderError, match="cannot be decoded"):
        list(decode_isolated([(tmp_path / "x", [0])], (8, 8)))
