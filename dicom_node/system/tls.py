"""TLS contexts: one for those who call us, one for those whom we call. TLS 1.2 is the oldest version that either takes."""

from __future__ import annotations

import ssl
from pathlib import Path


def server_context(certificate: Path, key: Path | None, authorities: Path | None = None) -> ssl.SSLContext:
    """For a server of ours. With ``authorities``, callers must show a certificate of theirs (mutual authentication)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if authorities is not None:
        context.load_verify_locations(authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authorities: Path | None = None) -> ssl.SSLContext:
    """For calling a server, whose certificate must come from ``authorities`` (PEM), or from the system's where None is given."""
    context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
