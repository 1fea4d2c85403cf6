"""The score of Table II over all seven categories (reading 3)."""

from __future__ import annotations

from collections.abc import Sequence

from spineone_core.anatomy import Structure
from trainer.evaluation.metrics import HIT_MM, annotated_rows, matches, offered_rows
from trainer.evaluation.outcomes import Outcome


def category_counts(outcome: Outcome) -> tuple[int, int]:
    """Right outputs and all outputs: right ones hit a keypoint of their category; those beyond 6 mm are wrong.

    Outputs at levels that are not annotated, and hits of keypoints of unknown category, count in neither.
    """
    right = outputs = 0
    if outcome.categories is None:
        return right, outputs
    for structure in Structure:
        hits = {found: row for row, found in matches(outcome, structure, HIT_MM)}
        annotated = annotated_rows(outcome, structure)
        for row in offered_rows(outcome, structure):
            true = outcome.true_categories[hits[row]] if row in hits else None
            if row in hits and true is not None:
                right += outcome.categories[row] == true
                outputs += 1
            elif row not in hits and row in annotated:
                outputs += 1
    return right, outputs


def category_precision(outcomes: Sequence[Outcome]) -> float:
    """TP / (TP + FP) over all seven categories; 0 where nothing is named."""
    counts = [category_counts(outcome) for outcome in outcomes]
    right, outputs = (sum(values) for values in zip(*counts, strict=True))
    return right / outputs if outputs else 0.0
