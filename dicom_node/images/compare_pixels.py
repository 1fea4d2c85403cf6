"""``python -m dicom_node.images.compare_pixels A B``: whether two DICOM files decode to the same pixels.

The exit status is 0 if they do, 1 if not. This is a separate program with a memory cap, because decoders may crash on
corrupt data. It holds one frame of each file at a time.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
from pydicom.pixels import iter_pixels

from spineone_core.imaging.children import limit_this_child
from spineone_core.imaging.files import read_dataset


def same_pixels(first: Path, second: Path) -> bool:
    """Whether two files decode to equal arrays of stored values, in the same photometric interpretation."""
    # This also finds out whether they are fit to be parsed.
    one, other = read_dataset(first, pixels=False), read_dataset(second, pixels=False)
    if one.get("PhotometricInterpretation") != other.get("PhotometricInterpretation"):
        return False
    pairs = itertools.zip_longest(iter_pixels(str(first)), iter_pixels(str(second)))
    return all(a is not None and b is not None and np.array_equal(a, b) for a, b in pairs)


def main(arguments: list[str]) -> int:
    """Entry point."""
    limit_this_child()
    try:
        return 0 if same_pixels(*map(Path, arguments)) else 1
    except Exception:  # files that cannot be decoded are not known to be the same
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
