"""Trying the receivers of alerts; one line for each says how it went."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime

from dicom_node.alerts.channels import channel_to
from dicom_node.alerts.digest import trial_message
from dicom_node.errors import NodeError, NotifyError
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Email, Webhook

_CHECK_TIMEOUT_S = 10


def check_receivers(settings: NodeSettings) -> bool:
    """Whether the server of every receiver answers; nothing is sent."""

    def check(receiver: Email | Webhook) -> str:
        channel_to(receiver, timeout_s=min(_CHECK_TIMEOUT_S, settings.delivery.timeout_s)).check()
        return "answers"

    return _try_each(settings, check)


def send_test(settings: NodeSettings) -> bool:
    """Send every receiver a test message; returns whether all could be told.

    Raises
    ------
    NodeError
        If the settings name no receiver.
    """
    if not settings.receivers:
        raise NodeError("there are no receivers: add [[emails]] or [[webhooks]] to the settings")

    def send(receiver: Email | Webhook) -> str:
        message = trial_message(settings.listener.ae_title, datetime.now(UTC))
        channel_to(receiver, timeout_s=settings.delivery.timeout_s).send(message)
        return "was sent a test message"

    return _try_each(settings, send)


def _try_each(settings: NodeSettings, step: Callable[[Email | Webhook], str]) -> bool:
    """Do a step for every receiver, even after one has failed; returns whether all went well."""
    good = True
    for receiver in settings.receivers:
        try:
            print(f"ok: receiver {receiver.name} {step(receiver)}")
        except NotifyError as error:
            print(f"error: receiver {receiver.name}: {error}", file=sys.stderr)
            good = False
    return good
