"""Decoding has one place in all processes that share a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spineone_core.imaging import children
from spineone_core.imaging.children import place_for_child, share_place

# Takes the place as a worker does, starts a child, says so, and waits to be killed.
OTHER = """
import subprocess, sys, time
from pathlib import Path
from spineone_core.imaging.children import place_for_child, share_place
share_place(Path(sys.argv[1]))
with place_for_child(10) as inherited:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=inherited)
    print(child.pid, flush=True)
    input()
"""


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    share_place(tmp_path / "decoding.lock")
    yield tmp_path / "decoding.lock"
    share_place(None)


def test_place__is_shared_by_processes_and_kept_by_the_child_of_a_killed_one(shared: Path) -> None:
    with place_for_child(1):
        pass
    command = [sys.executable, "-c", OTHER, str(shared)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        child = int(other.stdout.readline())
        try:
            assert not is_free()
            other.kill()
            other.wait()
            assert not is_free()
        finally:
            other.kill()
            os.kill(child, signal.SIGKILL)
    with place_for_child(10):
        pass


def is_free() -> bool:
    try:
        with place_for_child(0.3):
            return True
    except TimeoutError:
        return False


def test_place__of_one_process_is_taken_by_one_thread_at_a_time() -> None:
    assert children._shared is None
    with place_for_child(1), pytest.raises(TimeoutError), place_for_child(0.05):
        raise AssertionError("two at once")


def test_child__has_a_limit_on_its_processor_time() -> None:
    program = """
from spineone_core.imaging import children
children.TIME_LIMIT_S = 1
children.limit_this_child()
while True:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode < 0
