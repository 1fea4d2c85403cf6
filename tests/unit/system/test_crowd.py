"""Who waits, and who leaves for a new one."""

from __future__ import annotations

import pytest

from dicom_node.system.crowd import Crowd, origin_of


def test_enter__nobody_leaves_while_there_is_room() -> None:
    crowd: Crowd[str] = Crowd(3, 3)
    assert [crowd.enter(name, "10.0.0.1") for name in "abc"] == [None] * 3
    assert list(crowd) == ["a", "b", "c"]


def test_enter__the_address_with_most_makes_room_and_others_stay() -> None:
    crowd: Crowd[str] = Crowd(4, 4)
    crowd.enter("modality", "10.0.0.2")
    left = [crowd.enter(f"flood{n}", "10.0.0.1") for n in range(6)]
    assert left == [None, None, None, "flood0", "flood1", "flood2"]
    assert "modality" in crowd
    assert crowd.enter("other", "10.0.0.3") == "flood3"


def test_enter__one_address_has_a_limit_of_its_own() -> None:
    crowd: Crowd[str] = Crowd(10, 2)
    assert [crowd.enter(name, "10.0.0.1") for name in "abc"] == [None, None, "a"]
    assert crowd.enter("d", "10.0.0.2") is None


def test_leave__makes_room_and_may_be_said_twice() -> None:
    crowd: Crowd[str] = Crowd(2, 1)
    crowd.enter("a", "10.0.0.1")
    for _ in range(2):
        crowd.leave("a")
    assert len(crowd) == 0
    assert crowd.first_to_leave() is None
    assert crowd.enter("b", "10.0.0.1") is None


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
    ids=["IPv4", "IPv4 in IPv6", "IPv6", "link-local", "none"],
)
def test_origin__of_ipv6_is_its_network(address: str, origin: str) -> None:
    assert origin_of(address) == origin
