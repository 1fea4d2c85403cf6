"""How other programs write levels and classes, as the project names them."""

from __future__ import annotations

import re

from spineone_core.anatomy import VERTEBRAE, Grade
from trainer.datasets.sdid_points import LEVELS, read_grade

_JOINED = re.compile(r"(T12|L[1-5])(L[1-5]|S1?)")
_TOKEN = re.compile(r"(?<![A-Z0-9])(?:T12|L[1-5]|S1?)(?![A-Z0-9])")
_CLASSES = {
    "normal": Grade.NORMAL,
    "n": Grade.NORMAL,
    "degenerative": Grade.DEGENERATIVE,
    "d": Grade.DEGENERATIVE,
}


def level_named(name: str) -> str | None:
    """The level that a label means, or None: ``vertebrae_L1`` is L1; ``disc_L5_S``, ``L5/S1`` and ``L5S1`` are L5-S1."""
    found = _TOKEN.findall(_JOINED.sub(r"\1 \2", name.upper().replace("_", " ").replace("TH12", "T12")))
    level = "-".join("S1" if token == "S" else token for token in found)
    return level if level in LEVELS else None


def grade_named(text: str, level: str, notes: list[str]) -> Grade | None:
    """The class that a cell means: ``normal``, ``degenerative``, their first letters, or SDID-TC's codes.

    None where it is empty or unknown; an unknown word goes into ``notes``.
    """
    word = text.strip()
    grade = _CLASSES.get(word.lower()) or read_grade(word, "vertebra" if level in VERTEBRAE else "disc")
    if word and grade is None:
        notes.append(f"{level}: {word!r} is no class: unknown")
    return grade
