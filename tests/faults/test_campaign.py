"""The short form of `make campaign`."""

from __future__ import annotations

from pathlib import Path

from tests.faults import campaign

PLAN = campaign.Plan(
    # One of each process.
    kills=4,
    pdus=180,
    files=35,
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
    assert figures["mutated PDUs"].startswith("180:")
    assert figures["mutated files"].startswith("35:")
    assert figures["duplicate results"] == "0"
