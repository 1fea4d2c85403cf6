"""How states and reasons are called where people read them, on the status page and by commands alike."""

from __future__ import annotations

# How a file of a result stands with a destination.
OF_DELIVERY = {"waiting": "to send", "sent": "sent", "failed": "not sent"}
_NOT_ANALYSABLE = "not analysable: "


def in_words(code: object) -> str:
    """A state or a kind of alert as it is read: ``not_analysable`` is "not analysable"."""
    return str(code).replace("_", " ")


def with_result(state: str, result: str | None) -> str:
    """A study's state in words; of one that has a result and is received or read again, the result too."""
    words = in_words(state)
    return f"{words} ({in_words(result)} before)" if result and result != state else words


def reason_beside(state: str, reason: str) -> str:
    """What a study's reason says beyond its state, which stands beside it; empty if that is nothing."""
    if in_words(reason) == in_words(state):
        return ""
    return reason.removeprefix(_NOT_ANALYSABLE) if state == "not_analysable" else reason
