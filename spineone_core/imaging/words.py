"""The free text of headers made comparable: upper case, single spaces, every script kept, and the words of one script apart."""

from __future__ import annotations

import re
import unicodedata

# Signs that stand for another: the asterisk and the dashes of other keyboards, letters that do not decompose.
_SIGNS = str.maketrans({"∗": "*", "⁎": "*", "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-", "〜": "~"})
_LETTERS = str.maketrans({"Ł": "L", "Ø": "O", "Æ": "AE", "Œ": "OE", "Đ": "D", "Ð": "D", "Þ": "TH", "İ": "I", "ı": "I"})
# Scripts that put no spaces between words: Han, kana, hangul.
_UNSPACED = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+"


def folded(value: str) -> str:
    """The text in upper case, in the compatibility form of Unicode (NFKC), Latin letters without their accents."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).upper())
    text = "".join(map(_without_accent, text)).translate(_LETTERS).translate(_SIGNS)
    return re.sub(r"(?<!\w)Т(?=[12](?!\d))", "T", text)


def _without_accent(letter: str) -> str:
    """A Latin letter without its accents; letters of other scripts stay, since there the marks make another letter."""
    base = unicodedata.normalize("NFD", letter)[0]
    return base if base.isascii() else letter


def plain_text(value: str) -> str:
    """The `folded` text with single spaces for separators; the signs in T2* and TR/TE stay.

    Letters and digits of all scripts stay. A run of Han, kana or hangul is a word of its own, so that a Latin keyword beside
    it has its word boundaries.
    """
    text = re.sub(_UNSPACED, r" \g<0> ", folded(value))
    return " ".join(re.sub(r"[^\w*/.]|_", " ", text).split())


def mentions(pattern: str, text: str) -> bool:
    """Whether a `plain_text` holds a match of the pattern."""
    return re.search(pattern, text) is not None
