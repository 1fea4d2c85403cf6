"""Dividing patients into parts at random."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from trainer.datasets.splits import PARTS, SplitError

# Of the patients that nobody divided, so many train and the others choose the best epoch.
TRAINING_SHARE = {"train": 0.8, "validation": 0.2}


def split_patients(patients: Iterable[str], shares: Mapping[str, float], seed: int = 0) -> dict[str, str]:
    """Patient -> part, at random; it depends on the seed and on the set of patients alone. No part is empty.

    Parameters
    ----------
    shares
        Part -> its share of the patients. The shares are scaled to 1.

    Raises
    ------
    SplitError
        If there are fewer patients than parts, or a share is not above 0.
    """
    ordered, wanted = sorted(set(patients)), {part: share for part, share in shares.items() if share}
    if not wanted or min(wanted.values()) < 0:
        raise SplitError(f"shares {dict(shares)}: at least one must be above 0, none below")
    if len(ordered) < len(wanted):
        raise SplitError(f"{len(ordered)} patients cannot be divided into {len(wanted)} parts: {', '.join(wanted)}")
    order = np.random.default_rng([seed, 552]).permutation(len(ordered))
    counts = _counts(len(ordered), wanted)
    parts = [part for part, count in counts.items() for _ in range(count)]
    return {ordered[int(place)]: part for place, part in zip(order, parts, strict=True)}


def _counts(total: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of each part: rounded shares, at least 1; what is left over or lacking falls on the largest part."""
    whole = sum(shares.values())
    counts = {part: max(1, round(total * share / whole)) for part, share in shares.items()}
    largest = max(shares, key=lambda part: shares[part])
    counts[largest] += total - sum(counts.values())
    while counts[largest] < 1:
        richest = max(counts, key=lambda part: counts[part])
        counts[richest] -= 1
        counts[largest] += 1
    return counts


def render_splits(part_of: Mapping[str, str]) -> str:
    """The text of a split file, as `trainer.datasets.splits.read_splits` takes it."""
    lists = {part: sorted(patient for patient, own in part_of.items() if own == part) for part in PARTS}
    return json.dumps(lists, indent=1, ensure_ascii=False) + "\n"


def write_splits(path: Path, part_of: Mapping[str, str]) -> None:
    """Write a split file; it is not written over another one.

    Raises
    ------
    SplitError
        If the file is there already.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(render_splits(part_of))
    except FileExistsError as error:
        raise SplitError(f"{path} is there already; a split that was used must not change") from error
