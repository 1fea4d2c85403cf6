"""The channels to destinations: one row for each kind, and a file for each."""

from __future__ import annotations

from collections.abc import Callable

from dicom_node.delivery.channel import DeliveryChannel
from dicom_node.delivery.store_scu import Sender
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import Destination

# The kinds of channels, by `Destination.channel`.
CHANNELS: dict[str, Callable[[NodeSettings, Destination], DeliveryChannel]] = {"c-store": Sender.of}


def channel_for(settings: NodeSettings, destination: Destination) -> DeliveryChannel:
    """The channel to a destination. Nothing is opened before something is sent."""
    return CHANNELS[destination.channel](settings, destination)
