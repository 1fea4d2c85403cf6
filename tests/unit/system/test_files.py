from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import UnsafePathError
from dicom_node.system.files import safe_path


@pytest.mark.parametrize(
    "name", ["..", "../x", "/etc/passwd", "a/b", "", ".hidden", "-r", "a\0b", "a\nb", "é", "x" * 122]
)
def test_safe_path__takes_names_only(name: str) -> None:
    """UIDs are checked earlier, but one that was let through must still not leave the folder."""
    with pytest.raises(UnsafePathError):
        safe_path(Path("/data"), "1.2.3", name)


def test_safe_path__is_below_its_root() -> None:
    assert safe_path(Path("/data"), "1.2.3", "a-0.dcm") == Path("/data/1.2.3/a-0.dcm")
