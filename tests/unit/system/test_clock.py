from __future__ import annotations

from datetime import timedelta

import pytest

from dicom_node.system.clock import back_off, has_passed, utc_now


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 10), (2, 20), (4, 80), (9, 600), (10_000, 600)])
def test_back_off__doubles_up_to_the_longest(attempts: int, seconds: float) -> None:
    assert back_off(attempts, 10, 600) == seconds


@pytest.mark.parametrize(("ago_s", "passed"), [(0, False), (59, False), (60, True), (3600, True), (-1, True)])
def test_has_passed__even_if_the_pause_begins_in_the_future(ago_s: int, passed: bool) -> None:
    now = utc_now()
    assert has_passed(now - timedelta(seconds=ago_s), 60, now) is passed
