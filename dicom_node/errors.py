"""The tree of exceptions, and the values that a step returns.

The docstring of an exception says what it means and what an operator should do about it.
"""

from __future__ import annotations

from dataclasses import dataclass


class NodeError(Exception):
    """The node could not do what was asked."""

    exit_code = 1


class SettingsError(NodeError):
    """The settings are wrong. Correct every line listed and start again."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DatabaseError(NodeError):
    """The database cannot be used. Nothing was changed; see the message for what to do."""

    exit_code = 2


class ModelError(NodeError):
    """The model package is missing or damaged. Install it again or correct `model.path`."""

    exit_code = 2


class UnsafePathError(NodeError):
    """A name from outside would leave the data folder. The object was refused."""


class InvalidTransitionError(NodeError):
    """A job, study or delivery cannot do this in its current state. See `dicom-node job ID` or `dicom-node status`."""


class LeaseLostError(NodeError):
    """Another worker has taken over the job; this worker's result was discarded, and nothing is lost."""


class DeliveryError(NodeError):
    """A PACS could not be reached or refused the request. Delivery is tried again later; start a pull again."""


class NotOfferedError(DeliveryError):
    """The partner accepts none of the requested services. Configure it to let our AE title use them."""


class NotifyError(NodeError):
    """A receiver of alerts could not be told. It is told later; correct its settings or repair its server."""


@dataclass(frozen=True, slots=True)
class Done:
    """The step is finished."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Retry:
    """The step failed for a reason that may pass. ``after`` is the pause in seconds (None: the settings' back-off)."""

    why: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """The step can never succeed with this input."""

    reason: str


StepResult = Done | Retry | Reject
