"""The short form of `make campaign`."""

from __future__ import annotations

from pathlib import Path

from tests.faults import campaign


def test_kills_at_random_moments(tmp_path: Path) -> None:
    found = campaign.run(tmp_path, kills=3, pdus=60, files=40, seed=20260101)
    print("\n".join(found.lines()))
    assert found.acknowledged > 3
    assert found.is_good
