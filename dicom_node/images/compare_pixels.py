"""``python -m dicom_node.images.compare_pixels A B``: whether two DICOM files decode to the same pixels.

The exit status is 0 if they do, 1 if not. This is a separate program with a memory cap, because decoders may crash on
corrupt data.
"""

from __future__ import annotations

import resource
import sys

import numpy as np
import pydicom

MEMORY_CAP = 4 * 2**30


def same_pixels(first: str, second: str) -> bool:
    """Whether two files decode to equal arrays of stored values, in the same photometric interpretation."""
    one, other = pydicom.dcmread(first), pydicom.dcmread(second)
    if one.get("PhotometricInterpretation") != other.get("PhotometricInterpretation"):
        return False
    return bool(np.array_equal(one.pixel_array, other.pixel_array))


def main(arguments: list[str]) -> int:
    """Entry point."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_CAP, MEMORY_CAP))
    try:
        return 0 if same_pixels(*arguments) else 1
    except Exception:  # files that cannot be decoded are not known to be the same
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
