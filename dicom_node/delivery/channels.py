"""The channels to destinations: one row for each kind, and a file for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dicom_node.database.connection import Database
from dicom_node.delivery.channel import DeliveryChannel
from dicom_node.delivery.fhir_sender import FhirSender
from dicom_node.delivery.store_scu import Sender
from dicom_node.delivery.stow_sender import StowSender
from dicom_node.settings.node import AnyDestination, NodeSettings

# By the kind of the destination.
CHANNELS: dict[str, Callable[[NodeSettings, Any, Database], DeliveryChannel]] = {
    "dicom": lambda settings, destination, database: Sender.of(settings, destination),
    "dicomweb": lambda settings, destination, database: StowSender.of(settings, destination),
    "fhir": FhirSender,
}


def channel_for(settings: NodeSettings, destination: AnyDestination, database: Database) -> DeliveryChannel:
    """The channel to a destination. Nothing is opened before something is sent."""
    return CHANNELS[destination.kind](settings, destination, database)
