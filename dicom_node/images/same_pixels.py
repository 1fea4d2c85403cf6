"""Whether two files decode to the same pixels, found out in a child process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_COMPARE_TIMEOUT_S = 120


def decode_to_same(first: Path, second: Path) -> bool:
    """Decode two files in a child process: a decoder that dies on corrupt data must not take the listener with it."""
    command = [sys.executable, "-m", "dicom_node.images.compare_pixels", str(first), str(second)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=_COMPARE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0
