"""Finding out in a child process whether two files decode to the same pixels."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from spineone_core.imaging import children
from spineone_core.imaging.children import child_environment, place_for_child

# How long to wait for the decoding of others, workers among them, (seconds); a sender waits for its answer meanwhile.
_WAIT_S = 30.0


def decode_to_same(first: Path, second: Path) -> bool:
    """Whether two files decode to the same pixels.

    A child process decodes them: a decoder that dies on corrupt data must not take the listener with it.

    Raises
    ------
    TimeoutError
        If others are being compared all the time.
    """
    command = [sys.executable, "-m", "dicom_node.images.compare_pixels", str(first), str(second)]
    with place_for_child(_WAIT_S) as inherited:
        try:
            child = subprocess.run(
                command,
                capture_output=True,
                timeout=children.TIME_LIMIT_S,
                check=False,
                env=child_environment(),
                pass_fds=inherited,
            )
        except subprocess.TimeoutExpired:
            return False
    return child.returncode == 0
