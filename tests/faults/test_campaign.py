"""The short form of `make campaign`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import campaign
from tests.faults.memory import Curve

PLAN = campaign.Plan(
    # One of each process, and one message of each kind.
    kills=5,
    pdus=150,
    files=30,
    costly=5,
    strangers=80,
    idle=70,
    soak_minutes=0,
    mishaps=False,
    crowd=30,
    instances=0,
    locked_s=1,
    full_s=1,
    pacs_kills=1,
    away_s=1,
    disk_mb=300,
    senders=2,
    seed=20260101,
)


def test_faults_at_random_moments(tmp_path: Path) -> None:
    found = campaign.run(tmp_path, PLAN, kept=tmp_path / "kept")
    assert found.is_good, [str(line) for line in found.lines]
    figures = dict(found.figures)
    assert int(figures["images acknowledged"]) > PLAN.crowd
    assert figures["mutated PDUs"].startswith("150:")
    assert figures["mutated files"].startswith("30:")
    assert figures["messages that cost more than they weigh"].startswith("5:")
    assert figures["duplicate results"] == "0"


@pytest.mark.parametrize(
    ("bytes_at", "grows"),
    [
        (lambda n: 100 + (400 if n % 50 == 0 else 0), False),
        (lambda n: 100 + (n if n < 80 else 80), False),
        (lambda n: 100 + n // 10, True),
    ],
    ids=["peaks", "a warm-up", "a leak"],
)
def test_memory__what_counts_as_growth(bytes_at: Callable[[int], int], grows: bool) -> None:
    curve = Curve([(float(n), bytes_at(n)) for n in range(1000)])
    assert (curve.growth > 20) is grows
    assert curve.peak >= curve.points[-1][1]
    assert Curve().growth == Curve().peak == 0
