"""The present time, and pauses that survive a clock that is set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """The present time, aware, UTC."""
    return datetime.now(UTC)


def back_off(attempts: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait after ``attempts`` failures: doubles each time, up to the longest."""
    return float(min(longest_s, first_s * 2 ** min(max(attempts, 1) - 1, 30)))


def has_passed(since: datetime, seconds: float, now: datetime) -> bool:
    """Whether a pause is over. One that has not begun yet was written before the clock was set back: nothing waits for that."""
    return not since <= now < since + timedelta(seconds=seconds)
