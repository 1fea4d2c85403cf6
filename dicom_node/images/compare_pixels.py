"""``python -m dicom_node.images.compare_pixels A B``: whether two DICOM files decode to the same pixels.

The exit status is 0 if they do, 1 if not. This is a separate program with a memory cap, because decoders may crash on
corrupt data. It holds one frame of each file at a time.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian

from spineone_core.imaging.children import limit_this_child
from spineone_core.imaging.files import read_dataset


def same_pixels(first: Path, second: Path) -> bool:
    """Whether two files decode to equal arrays of stored values, in the same photometric interpretation."""
    # This also finds out whether they are fit to be parsed.
    one, other = read_dataset(first, pixels=False), read_dataset(second, pixels=False)
    if one.get("PhotometricInterpretation") != other.get("PhotometricInterpretation"):
        return False
    pairs = itertools.zip_longest(_frames(first, one), _frames(second, other))
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs)


def _frames(path: Path, header: Dataset) -> Iterator[NDArray[Any]]:
    """One frame after the other. pydicom does not read frames out of a deflated file, which is inflated whole in any case."""
    is_deflated = header.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    return iter_pixels(read_dataset(path, pixels=True) if is_deflated else str(path))


def main(arguments: list[str]) -> int:
    """Entry point."""
    limit_this_child()
    try:
        return 0 if same_pixels(*map(Path, arguments)) else 1
    except Exception:  # files that cannot be decoded are not known to be the same
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
