"""The seven categories of the SDID-TC competition: discs v1 to v5, vertebrae v1 and v2 (Table II scores all of them)."""

from __future__ import annotations

import re

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.network.config import CATEGORIES
from trainer.datasets.exam import Exam

# Of several codes of a disc the last one in this order counts: extrusion (v4), protrusion (v3), bulge (v2), Schmorl node (v5),
# normal (v1). So "v2,v3" is v3, and "v2,v5" is v2.
DISC_ORDER = ("v1", "v5", "v2", "v3", "v4")

# Ten in reading order: the index of the category's channel, None where it is unknown.
Categories = tuple[int | None, ...]


def category_of(codes: str, grade: Grade | None, structure: Structure) -> int | None:
    """The channel of a keypoint's category; None where it is unknown.

    Parameters
    ----------
    codes
        SDID-TC's codes, such as ``v2,v3``. With anything else, ``grade`` decides as far as it can: a normal disc or vertebra is
        v1, a degenerative vertebra v2, and of a degenerative disc the kind is unknown.
    """
    known = [f"v{n}" for n in range(1, CATEGORIES[structure] + 1)]
    found = {code.strip() for code in codes.split(",")}
    if found <= set(known):
        order = DISC_ORDER if structure is Structure.DISC else known
        return known.index(max(found, key=order.index))
    if grade is Grade.NORMAL:
        return 0
    return 1 if grade is Grade.DEGENERATIVE and structure is Structure.VERTEBRA else None


def categories_of(exam: Exam) -> Categories:
    """The categories of an exam's ten keypoints; None where the class is unknown too, or the level has no point."""
    rows = zip(READING_ORDER, exam.grade_row, strict=True)
    return tuple(
        None if grade is None else category_of(exam.raw.get(landmark.level, ""), grade, landmark.structure)
        for landmark, grade in rows
    )


def has_categories(exam: Exam) -> bool:
    """Whether any disc has codes of its own, so that there is more to learn than two classes."""
    return any(re.fullmatch(r"v[1-5](,\s*v[1-5])*", codes) for codes in exam.raw.values())
