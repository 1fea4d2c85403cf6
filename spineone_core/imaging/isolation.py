"""Decodes compressed pixel data in a child process, so that only the child dies where a decoder aborts or uses up memory.

The decoders of JPEG, JPEG-LS and JPEG 2000 are C and C++ libraries. A hostile file can make them abort the process or ask
for all memory, which no ``except`` catches. The child has limits on memory and time; what it does not return is refused. It
returns frame by frame, so that neither side ever holds more than one beside what it reads or makes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
from numpy.typing import NDArray

from spineone_core.findings import NotAnalysable
from spineone_core.imaging import children
from spineone_core.imaging.children import child_environment, limit_this_child, place_for_child
from spineone_core.imaging.pixels import decode_frames

# A file and the frames of it that are wanted (counted from 0).
Wanted = tuple[Path, Sequence[int]]
_LONGEST_MESSAGE = 1000


class DecoderError(Exception):
    """The child could not decode; the message says why and quotes no free text of the file."""


def decode_isolated(wanted: Sequence[Wanted], shape: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
    """Each wanted frame, as `decode_frames` gives it, decoded in one child process.

    Parameters
    ----------
    shape
        Rows and columns that each frame must have.

    Raises
    ------
    DecoderError
        If a frame cannot be decoded or has another shape, or the child is killed by a signal, its memory limit or its time
        limit.
    """
    try:
        with place_for_child(children.WAIT_S) as inherited:
            yield from _ask_child(wanted, shape, children.TIME_LIMIT_S, inherited)
    except TimeoutError as error:
        raise DecoderError(str(error)) from error


def _ask_child(
    wanted: Sequence[Wanted], shape: tuple[int, int], limit_s: float, inherited: Sequence[int]
) -> Iterator[NDArray[np.float32]]:
    question = json.dumps([[str(path.resolve()), list(numbers)] for path, numbers in wanted]).encode()
    command = [sys.executable, "-m", "spineone_core.imaging.isolation"]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        pass_fds=inherited,
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(limit_s, end)
    timer.start()
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        _tell(child.stdin, question)
        for _ in range(sum(len(numbers) for _, numbers in wanted)):
            yield _frame(child, child.stdout, shape)
    except DecoderError as error:
        raise DecoderError(f"the decoder took longer than {limit_s} s") if late.is_set() else error from None
    finally:
        timer.cancel()
        child.kill()
        child.stdout.close()
        child.wait()


def _tell(stream: IO[bytes], question: bytes) -> None:
    try:
        stream.write(question)
        stream.close()
    except BrokenPipeError:
        pass  # it has died; that it gives no answer says so


def _frame(child: subprocess.Popen[bytes], stream: IO[bytes], shape: tuple[int, int]) -> NDArray[np.float32]:
    kind = stream.read(1)
    if kind == b"E":
        raise DecoderError(stream.read(_LONGEST_MESSAGE).decode(errors="replace"))
    if kind != b"A":
        raise DecoderError(f"the decoder ended without an answer (exit status {child.wait()})")
    head = stream.read(8)
    found = (int.from_bytes(head[:4], "little"), int.from_bytes(head[4:], "little"))
    if len(head) == 8 and found != shape:
        raise DecoderError(f"pixel data hold {found[0]} x {found[1]} pixels, the header says otherwise")
    frame = bytearray(shape[0] * shape[1] * np.dtype(np.float32).itemsize)
    if len(head) < 8 or _read_into(stream, memoryview(frame)) < len(frame):
        raise DecoderError(f"the decoder's answer is incomplete (exit status {child.wait()})")
    return np.frombuffer(frame, np.float32).reshape(shape)


def _read_into(stream: IO[bytes], target: memoryview) -> int:
    """Fill ``target``; returns how many bytes came."""
    count = 0
    while count < len(target) and (block := stream.read(min(2**20, len(target) - count))):
        target[count : count + len(block)] = block
        count += len(block)
    return count


# ---------------------------------------------------------------- the child


def _answer(path: Path, numbers: Sequence[int], output: BinaryIO) -> bool:
    """Write one file's frames, or why they cannot be decoded; False ends the conversation."""
    try:
        for frame in decode_frames(path, numbers):
            rows, columns = frame.shape
            output.write(b"A" + rows.to_bytes(4, "little") + columns.to_bytes(4, "little"))
            output.write(frame.astype("<f4", copy=False).tobytes())
    except NotAnalysable as error:
        output.write(b"E" + error.detail.encode())
        return False
    except MemoryError:
        output.write(b"Epixel data need more memory than the decoder may have")
        return False
    return True


def main() -> None:
    """Reads files and frames as a JSON list from standard input and writes answers to standard output."""
    limit_this_child()
    # Libraries may print to descriptor 1; keep this channel for answers only.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for path, numbers in json.load(sys.stdin):
        if not _answer(Path(path), numbers, output):
            break
    output.flush()


if __name__ == "__main__":
    main()
