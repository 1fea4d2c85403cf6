"""pynetdicom's global switches, set once for a process."""

from __future__ import annotations

from pynetdicom import _config


def tame_pynetdicom() -> None:
    """No identifiers in logs, no expensive log handlers, no private classes."""
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    _config.UNRESTRICTED_STORAGE_SERVICE = False
