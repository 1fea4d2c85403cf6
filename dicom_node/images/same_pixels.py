"""Finding out in a child process whether two files decode to the same pixels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_COMPARE_TIMEOUT_S = 120


def decode_to_same(first: Path, second: Path) -> bool:
    """Whether two files decode to the same pixels.

    A child process decodes them: a decoder that dies on corrupt data must not take the listener with it.
    """
    command = [sys.executable, "-m", "dicom_node.images.compare_pixels", str(first), str(second)]
    try:
        child = subprocess.run(command, capture_output=True, timeout=_COMPARE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return child.returncode == 0
