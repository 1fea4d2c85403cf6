from __future__ import annotations

import os
import stat
from pathlib import Path

from dicom_node.images.folders import FOLDERS, prepare_folders


def test_folders__are_closed_to_others(tmp_path: Path) -> None:
    """Whatever the umask of the process allows."""
    before = os.umask(0)
    try:
        prepare_folders(tmp_path / "data")
    finally:
        os.umask(before)
    modes = {folder.name: stat.S_IMODE(folder.stat().st_mode) for folder in (tmp_path / "data").iterdir()}
    assert modes == dict.fromkeys(FOLDERS, 0o750)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o750
