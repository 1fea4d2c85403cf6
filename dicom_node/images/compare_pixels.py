"""``python -m dicom_node.images.compare_pixels A B``: exit status 0 if two DICOM files decode to the same pixels, 1 if not.

A program of its own, with a memory cap, because decoders may crash on corrupt data.
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
    except Exception:  # whatever cannot be decoded is not known to be the same
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
