"""The time. What is stored or shared goes by `utc_now`; intervals and deadlines of a process go by `time.monotonic`.

A machine's time of day can be wrong: a battery is empty, a host sets a guest's clock, somebody types a year. So it is
compared with the time since the machine started, which nothing sets (docs/decisions/019-clocks.md). While it is not
plausible, `utc_now` goes on from the last plausible time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

# A step of the time of day up to this size (seconds) is a correction, as NTP makes them; a larger one is a fault.
LARGEST_STEP_S = 300.0
# How long (seconds) a node may have been switched off before a person must say that so much time has really passed.
LONGEST_OFF_S = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is known about the time.

    Parameters
    ----------
    lead_s
        How far the time of day is ahead of the time since the machine started (seconds).
    is_sure
        Whether the clock was seen to be right since the machine started. Otherwise the lead is the smallest possible:
        the node has a record of that time.
    """

    lead_s: float
    is_sure: bool = True

    def fits(self, lead_s: float) -> bool:
        """Whether the time of day may be that far ahead."""
        off_s = lead_s - self.lead_s
        return -LARGEST_STEP_S <= off_s <= (LARGEST_STEP_S if self.is_sure else LONGEST_OFF_S)


class Clock:
    """The time of day of this machine, as far as it is plausible. Without an anchor everything is."""

    def __init__(self) -> None:
        self._anchor: Anchor | None = None

    @property
    def anchor(self) -> Anchor | None:
        """What is known about the time; None in a process that does not watch its clock."""
        return self._anchor

    def set(self, anchor: Anchor | None) -> None:
        """From now on this is known."""
        self._anchor = anchor

    def now(self) -> datetime:
        """The time in UTC, timezone-aware. Small steps and slews of the time of day are followed."""
        anchor, lead_s = self._anchor, lead()
        if anchor is not None and anchor.fits(lead_s):
            self._anchor = Anchor(lead_s)
        elif anchor is not None:
            lead_s = anchor.lead_s
        return datetime.fromtimestamp(uptime() + lead_s, UTC)

    def fault(self) -> str:
        """What is wrong with the time of day, in words; empty if it is plausible."""
        anchor, lead_s = self._anchor, lead()
        if anchor is None or anchor.fits(lead_s):
            return ""
        off_s = lead_s - anchor.lead_s
        known = "it should be about" if anchor.is_sure else "it cannot be before"
        side = "ahead" if off_s > 0 else "behind"
        return f"the time of day is {_words(abs(off_s))} {side}: {known} {self.now():%Y-%m-%d %H:%M} UTC"


def uptime() -> float:
    """Seconds since the machine started, the time in which it was suspended included."""
    # Linux's CLOCK_MONOTONIC stands still while the machine is suspended, and the time of day does not.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def lead() -> float:
    """How far the time of day is ahead of `uptime` (seconds)."""
    return time.time() - uptime()


clock = Clock()


def utc_now() -> datetime:
    """The current time in UTC, timezone-aware: the time of day, or the node's own count while that is not plausible."""
    return clock.now()


def back_off(attempts: int, first_s: float, longest_s: float) -> float:
    """Seconds to wait after ``attempts`` failures: the wait doubles each time, up to ``longest_s``."""
    return float(min(longest_s, first_s * 2 ** min(max(attempts, 1) - 1, 30)))


def has_passed(since: datetime, seconds: float, now: datetime) -> bool:
    """Whether a pause is over.

    A pause that begins in the future was recorded before the clock was set back: it counts as over, so nothing waits
    for it.
    """
    return not since <= now < since + timedelta(seconds=seconds)


def _words(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 60:.0f} minutes"
