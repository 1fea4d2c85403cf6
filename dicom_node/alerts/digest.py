"""Putting many notices into one message, for people and for programs. Like the alerts, it holds no patient data."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from dicom_node.alerts.channels import Message
from dicom_node.alerts.notices import AlertEvent, Notice
from dicom_node.database.tables import Alert
from dicom_node.database.words import AlertKind

# How many alerts of each kind a mail shows, and how many alerts in total a webhook's JSON holds.
_MOST_OF_A_KIND = 20
_MOST_IN_JSON = 200
_HEADINGS = {AlertEvent.OPENED: "NEW", AlertEvent.STILL_OPEN: "STILL OPEN", AlertEvent.OVER: "OVER"}
_WORDS = {AlertEvent.OPENED: "new", AlertEvent.STILL_OPEN: "still open", AlertEvent.OVER: "over"}
_FOOT = "`dicom-node status` shows what is open, `dicom-node acknowledge NUMBER` closes an alert that was dealt with."


def compose(node: str, notices: Sequence[Notice], now: datetime) -> Message:
    """One message about all these notices; ``node`` is the node's AE title."""
    counts = {event: sum(notice.event is event for notice in notices) for event in AlertEvent}
    said = ", ".join(f"{count} {_WORDS[event]}" for event, count in counts.items() if count)
    kinds = ", ".join(sorted({notice.alert.kind for notice in notices}))
    subject = f"[{node}] alerts: {said} ({kinds})"
    lines = [f"SpineOne node {node} on {socket.gethostname()}, {_time(now)}", ""]
    for event in AlertEvent:
        lines += _section(event, [notice for notice in notices if notice.event is event])
    payload = {
        **_head(node, subject, now),
        "counts": {event.value: count for event, count in counts.items()},
        "alerts": [_as_json(notice) for notice in notices[:_MOST_IN_JSON]],
        "left_off": max(0, len(notices) - _MOST_IN_JSON),
    }
    return Message(subject, "\n".join([*lines, _FOOT, ""]), payload)


def trial_message(node: str, now: datetime) -> Message:
    """What `dicom-node alerts --test` sends."""
    subject = f"[{node}] test of alerts"
    text = f"SpineOne node {node} on {socket.gethostname()}, {_time(now)}\n\nThis is a test. Alerts of the node come this way.\n"
    counts = {event.value: 0 for event in AlertEvent}
    return Message(subject, text, {**_head(node, subject, now), "counts": counts, "alerts": [], "left_off": 0})


def _head(node: str, subject: str, now: datetime) -> dict[str, Any]:
    # Mattermost, Slack and others show `text` as it is.
    return {"node": node, "host": socket.gethostname(), "sent_at": now.isoformat(timespec="seconds"), "text": subject}


def _section(event: AlertEvent, notices: Sequence[Notice]) -> list[str]:
    lines = []
    ordered = sorted((notice.alert for notice in notices), key=lambda alert: (alert.kind, alert.id))
    for kind, group in groupby(ordered, key=lambda alert: alert.kind):
        alerts = list(group)
        lines.append(f"{_HEADINGS[event]}: {kind}, {len(alerts)} ({AlertKind.words_of(kind)})")
        for alert in alerts[:_MOST_OF_A_KIND]:
            lines += [f"  {alert.id}  {alert.subject}", f"      {alert.detail}", f"      {_times(alert)}"]
        left = len(alerts) - _MOST_OF_A_KIND
        lines += [f"  and {left} more", ""] if left > 0 else [""]
    return lines


def _times(alert: Alert) -> str:
    often = f"{alert.count} times, last {_time(alert.last_at)}" if alert.count > 1 else "once"
    over = f", over {_time(alert.closed_at)}" if alert.closed_at else ""
    return f"since {_time(alert.opened_at)}, {often}{over}"


def _as_json(notice: Notice) -> dict[str, Any]:
    alert = notice.alert
    return {
        "id": alert.id,
        "event": notice.event.value,
        "kind": alert.kind,
        "subject": alert.subject,
        "detail": alert.detail,
        "count": alert.count,
        "opened_at": alert.opened_at.isoformat(timespec="seconds"),
        "last_at": alert.last_at.isoformat(timespec="seconds"),
        "closed_at": alert.closed_at.isoformat(timespec="seconds") if alert.closed_at else None,
    }


def _time(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC"
