"""Trying what the STOW-RS process needs: its tokens, its certificate and its port."""

from __future__ import annotations

import ssl

from dicom_node.database.connection import open_database
from dicom_node.errors import NodeError, SettingsError
from dicom_node.health.heartbeats import running
from dicom_node.receiving.tokens import Tokens
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import utc_now
from dicom_node.system.tls import server_context
from dicom_node.web.listening import listen_on


def stow_problems(settings: NodeSettings) -> list[str]:
    """What is wrong with tokens, certificate and port of STOW-RS, one line each; tokens are read in any case."""
    problems = []
    try:
        Tokens(settings.tokens)
    except SettingsError as error:
        problems += error.problems
    rules = settings.dicomweb
    if not rules.enabled:
        return problems
    if rules.tls_cert is not None:
        try:
            server_context(rules.tls_cert, rules.tls_key, rules.tls_ca)
        except (ssl.SSLError, OSError) as error:
            problems.append(f"dicomweb: certificate and key cannot be used: {type(error).__name__}")
    try:
        listen_on(rules.host, rules.port).close()
    except OSError as error:
        if not _is_at_work(settings):
            problems.append(f"dicomweb: cannot listen on {rules.host}:{rules.port}: {error.strerror or error}")
    return problems


def _is_at_work(settings: NodeSettings) -> bool:
    """Whether the process itself is who listens there."""
    try:
        database = open_database(settings.database)
    except NodeError:
        return False
    try:
        with database.read() as session:
            return any(p.role == "stow" and p.is_alive for p in running(session, now=utc_now()))
    finally:
        database.close()
