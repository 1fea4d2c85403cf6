"""What processes do at their start."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Each thread holds something small, as it would in an association; glibc's further heaps begin at multiples of 64 MiB.
_THREADS = """
import threading
{first}
together = threading.Barrier(9)
def hold():
    held = [bytearray(2000) for _ in range(100)]
    together.wait()
    together.wait()
for _ in range(8):
    threading.Thread(target=hold, daemon=True).start()
together.wait()
starts = [int(line.split("-")[0], 16) for line in open("/proc/self/maps")]
print(sum(start % 2**26 == 0 for start in starts))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps are as this says in glibc alone")
def test_keep_memory_flat__threads_get_no_heaps_of_their_own() -> None:
    assert _heaps("from dicom_node.system.lifecycle import keep_memory_flat as flat; flat()") < 2 <= _heaps("")


def test_keep_memory_flat__start_up_is_no_longer_looked_through() -> None:
    look = "print(gc.get_freeze_count(), len(gc.get_objects()))"
    program = f"import gc; from dicom_node.system.lifecycle import keep_memory_flat as flat; flat(); {look}"
    frozen, others = map(
        int, subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.split()
    )
    assert frozen > 5_000 > others


def _heaps(first: str) -> int:
    program = [sys.executable, "-c", _THREADS.format(first=first)]
    return int(subprocess.run(program, capture_output=True, text=True, check=True).stdout)
