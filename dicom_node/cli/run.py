"""`serve`, `listen`, `work`, `deliver`, `web`, `stow`: the processes of the node. See `processes.roles` for what is in each."""

from __future__ import annotations

from dicom_node.cli.options import DEFAULT_CONFIG, ConfigOption
from dicom_node.processes import roles


def serve(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the whole node: listener, workers, delivery, web. SIGTERM stops it cleanly."""
    roles.serve(config)


def listen(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the listener alone: C-ECHO and C-STORE."""
    roles.listen(config)


def work(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run one worker alone: analyse studies."""
    roles.work(config)


def deliver(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run scheduler and delivery alone: close studies, reclaim jobs, send results, ask for proof and give it, tell the
    receivers of alerts."""
    roles.deliver(config)


def web(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the web process alone: health, metrics and the status page."""
    roles.web(config)


def stow(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the STOW-RS process alone: it receives over HTTP (`[dicomweb]`)."""
    roles.stow(config)
