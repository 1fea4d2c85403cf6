"""The budget of memory: all together, each peer's share, and what those that have gone leave."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from dicom_node.dicom.budget import Budget


@dataclass(eq=False)
class Association:
    """The part of an association that the budget looks at."""

    title: str = "ROUTER"
    alive: bool = True
    is_requestor: bool = False
    requestor: Any = field(init=False)

    def __post_init__(self) -> None:
        self.requestor = SimpleNamespace(ae_title=self.title, address="192.0.2.1")

    def is_alive(self) -> bool:
        return self.alive


def test_take__one_peer_leaves_something_to_the_others() -> None:
    budget, mine = Budget(100, 20), [Association() for _ in range(4)]
    assert [budget.take(association, 20) for association in mine] == [True, True, False, False]
    assert [budget.take(Association("OTHER"), 20) for _ in range(2)] == [True, True]
    assert budget.take(Association("THIRD"), 20)
    assert not budget.take(Association("FOURTH"), 1)


def test_take__the_largest_object_fits_into_a_share() -> None:
    assert Budget(100, 90).take(Association(), 90)


def test_take__a_sender_that_has_gone_frees_what_it_held() -> None:
    budget, gone = Budget(100, 50), Association()
    assert budget.take(gone, 50)
    assert not budget.take(Association(), 1)
    gone.alive = False
    assert budget.take(Association(), 50)


def test_give_back() -> None:
    budget, association = Budget(100, 50), Association()
    assert budget.take(association, 50)
    budget.give_back(association)
    assert budget.take(association, 50)
