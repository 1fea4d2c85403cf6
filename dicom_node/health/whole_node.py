"""Whether the node as a whole runs, since when, and which version and model."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from dicom_node.health.heartbeats import running
from dicom_node.health.readiness import NEEDED_ROLES
from dicom_node.settings.node import NodeSettings
from spineone_core.version import software_version


def whole_node(session: Session, settings: NodeSettings, now: datetime) -> dict[str, Any]:
    """Plain JSON values: ``state`` is "runs", "runs in part" or "stopped"; ``missing`` are the roles that no process has.

    Of a node that is stopped, version and model are those that it would start with.
    """
    alive = [process for process in running(session, now=now) if process.is_alive]
    roles = {process.role for process in alive}
    missing = [role for role in NEEDED_ROLES if role not in roles]
    since = min((process.started_at for process in alive), default=None)
    versions = sorted({process.version for process in alive if process.version})
    models = sorted({process.model for process in alive if process.model})
    return {
        "state": "stopped" if not alive else "runs in part" if missing else "runs",
        "missing": missing,
        "started_at": None if since is None else since.isoformat(timespec="seconds"),
        "uptime_s": None if since is None else round(max(0.0, (now - since).total_seconds())),
        "version": ", ".join(versions) or software_version(),
        "model": ", ".join(models) or f"{settings.model.path} (no worker has loaded it)",
    }


def in_words(node: dict[str, Any]) -> str:
    """The same as one line for a person."""
    what = f"version {node['version']}, model {node['model']}"
    if node["state"] == "stopped":
        return f"STOPPED: no process of the node is at work; {what}"
    hours, seconds = divmod(node["uptime_s"], 3600)
    lacks = f" (there is no {', '.join(node['missing'])})" if node["missing"] else ""
    return f"{node['state']}{lacks} for {hours} h {seconds // 60} min; {what}"
