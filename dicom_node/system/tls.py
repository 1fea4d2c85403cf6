"""TLS contexts: one for incoming connections and one for outgoing ones. Both require TLS 1.2 or later."""

from __future__ import annotations

import ssl
from pathlib import Path


def server_context(certificate: Path, key: Path | None, authorities: Path | None = None) -> ssl.SSLContext:
    """The context of one of our servers.

    With ``authorities``, each caller must show a certificate from one of them (mutual authentication).
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if authorities is not None:
        context.load_verify_locations(authorities)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(
    authorities: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> ssl.SSLContext:
    """The context for calling a server.

    The server's certificate must come from ``authorities`` (PEM), or from the system's if that is None. It is shown our
    ``certificate`` if it asks for one.
    """
    context = ssl.create_default_context(cafile=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
