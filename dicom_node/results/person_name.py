"""Making a person's name fit its attribute: a component group of PN has at most 64 characters (PS3.5 6.2)."""

from __future__ import annotations

import unicodedata

LONGEST_GROUP = 64


def is_too_long(name: str) -> bool:
    """Whether a component group (alphabetic, ideographic, phonetic) is longer than PN allows."""
    return any(len(group) > LONGEST_GROUP for group in name.split("="))


def shortened(name: str) -> str:
    """The name with each component group cut to 64 characters.

    Whole components are left out from the end (suffix, prefix, middle, given name) where that suffices; only a family
    name that is too long by itself is cut inside, never between a letter and its accents.
    """
    return "=".join(_shortened_group(group) for group in name.split("=")).rstrip("=")


def _shortened_group(group: str) -> str:
    components = group.split("^")
    while len(group) > LONGEST_GROUP and len(components) > 1:
        components.pop()
        group = "^".join(components)
    if len(group) <= LONGEST_GROUP:
        return group.rstrip("^ ")
    end = LONGEST_GROUP
    while end > 1 and unicodedata.combining(group[end]):
        end -= 1
    return group[:end].rstrip()
