"""Undoing the deflated transfer syntax (PS3.5 A.5) block by block, so that its limits hold while it goes on."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from spineone_core.imaging.extent import CostlyError

# A deflated data set may grow by this factor or to this size, whichever is more, but never beyond the last value (bytes).
_INFLATE_RATIO = 200
INFLATE_ALWAYS = 64 * 2**20
_INFLATE_MOST = 2**30
# It may have this many elements and items, and one more for each byte that it was deflated to.
_ALWAYS_PARTS = 100_000
_BLOCK = 2**20


class InflationError(ValueError):
    """The deflated data are corrupt."""


def inflate(data: bytes, *, hold: Callable[[int], None] = lambda size: None) -> bytes:
    """The data set that was deflated.

    Parameters
    ----------
    hold
        Called with the bytes of memory that each block takes, before it is kept; it may raise.

    Raises
    ------
    CostlyError
        If it grows out of proportion.
    InflationError
        If the data are corrupt.
    """
    limit = min(_INFLATE_MOST, max(INFLATE_ALWAYS, _INFLATE_RATIO * len(data)))
    blocks, size, inflater = [], 0, zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        while data and not inflater.eof:
            block = inflater.decompress(data, _BLOCK)
            data = inflater.unconsumed_tail
            size += len(block)
            if size > limit:
                raise CostlyError("deflated data grow out of proportion")
            # The blocks and what they are joined to exist at the same time.
            hold(2 * len(block))
            blocks.append(block)
    except zlib.error:
        raise InflationError("deflated data are corrupt") from None
    return b"".join(blocks)


def most_parts_of(deflated_size: int) -> int:
    """How many parts a data set may have that was deflated to so many bytes (see `extent.measure`)."""
    return _ALWAYS_PARTS + deflated_size
