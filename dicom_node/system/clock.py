"""The current time, and pauses that still end when the clock is set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """The current time in UTC, timezone-aware."""
    return datetime.now(UTC)


def back_off(attempts: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait after ``attempts`` failures: the wait doubles each time, up to ``longest_s``."""
    return float(min(longest_s, first_s * 2 ** min(max(attempts, 1) - 1, 30)))


def has_passed(since: datetime, seconds: float, now: datetime) -> bool:
    """Whether a pause is over.

    A pause that begins in the future was recorded before the clock was set back: it counts as over, so nothing waits
    for it.
    """
    return not since <= now < since + timedelta(seconds=seconds)
