"""Decodes compressed pixel data in a child process, so that only the child dies where a decoder aborts or uses up memory.

The decoders of JPEG, JPEG-LS and JPEG 2000 are C and C++ libraries. A hostile file can make them abort the process or ask
for all memory, which no ``except`` catches. The child has limits on memory and time; what it does not return is refused.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from spineone_core.findings import NotAnalysable
from spineone_core.imaging.pixels import decode_file

MEMORY_LIMIT = 6 * 2**30
TIME_LIMIT_S = 120


class DecoderError(Exception):
    """The child could not decode; the message says why and quotes no free text of the file."""


def decode_isolated(paths: Sequence[Path]) -> list[NDArray[np.float32]]:
    """(frames, rows, columns) of each file, as `decode_file` gives them, decoded in one child process.

    Raises
    ------
    DecoderError
        If a file cannot be decoded, or the child is killed by a signal, its memory limit or its time limit.
    """
    command = [sys.executable, "-m", "spineone_core.imaging.isolation"]
    # The child finds this package where the parent found it, installed or not.
    places = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    try:
        child = subprocess.run(
            command,
            input=json.dumps([str(path.resolve()) for path in paths]).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIME_LIMIT_S,
            env={**os.environ, "PYTHONPATH": places},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DecoderError(f"the decoder took longer than {TIME_LIMIT_S} s") from error
    return _read_answers(child.stdout, len(paths), child.returncode)


def _read_answers(output: bytes, count: int, status: int) -> list[NDArray[np.float32]]:
    stream, stacks = io.BytesIO(output), []
    for _ in range(count):
        kind = stream.read(1)
        if kind == b"E":
            raise DecoderError(stream.read().decode(errors="replace"))
        if kind != b"A":
            raise DecoderError(f"the decoder ended without an answer (exit status {status})")
        try:
            stacks.append(np.load(stream, allow_pickle=False))
        except (ValueError, EOFError, OSError) as error:
            raise DecoderError(f"the decoder's answer is incomplete (exit status {status})") from error
    return stacks


# ---------------------------------------------------------------- the child


def _answer(path: Path, output: BinaryIO) -> bool:
    """Write one file's pixels, or why they cannot be decoded; False ends the conversation."""
    try:
        pixels = decode_file(path)
    except NotAnalysable as error:
        output.write(b"E" + error.detail.encode())
        return False
    except MemoryError:
        output.write(b"Epixel data need more memory than the decoder may have")
        return False
    answer = io.BytesIO()  # numpy writes to a pipe's descriptor directly, past its buffer
    np.save(answer, pixels, allow_pickle=False)
    output.write(b"A")
    output.write(answer.getbuffer())
    return True


def main() -> None:
    """Reads paths as a JSON list from standard input and writes answers to standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Libraries may print to descriptor 1; keep this channel for answers only.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for path in json.load(sys.stdin):
        if not _answer(Path(path), output):
            break
    output.flush()


if __name__ == "__main__":
    main()
