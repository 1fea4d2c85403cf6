"""The STOW-RS process: it receives as the listener does, over HTTP, and shares nothing with the process of the page."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from functools import partial
from typing import Any, cast

import uvicorn

from dicom_node.audit.log import AuditLog
from dicom_node.audit.transfers import Receiving
from dicom_node.database.connection import Database
from dicom_node.errors import NodeError, SettingsError
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.admission import Admission
from dicom_node.receiving.peers import Peers
from dicom_node.receiving.tokens import Tokens
from dicom_node.receiving.visits import Door
from dicom_node.settings.dicomweb import DicomwebRules
from dicom_node.settings.node import NodeSettings
from dicom_node.system.lifecycle import StopFlag, keep_memory_flat, notify_ready
from dicom_node.system.log import get_logger
from dicom_node.system.loops import attempt
from dicom_node.system.tls import server_context
from dicom_node.web.connections import GuardedProtocol, Lobby
from dicom_node.web.listening import BACKLOG, listen_on
from dicom_node.web.stow_app import StowApp

_LOOK_EVERY_S = 10.0
# What is on its way when the node stops gets this long (seconds); the supervisor waits twice as long.
_STOP_GRACE_S = 10
# The answer to a request has so many seconds more than its body, at most.
_ANSWER_S = 60.0


class StowServer:
    """Serves STOW-RS from a thread.

    Parameters
    ----------
    settings
        The settings of the whole node.
    database, store
        The node's database, and the store that keeps what comes.

    Raises
    ------
    SettingsError
        If the tokens are wrong.
    """

    def __init__(self, settings: NodeSettings, database: Database, store: InstanceStore) -> None:
        self._rules = settings.dicomweb
        peers = Peers(settings)
        self._audit = Receiving(AuditLog(settings), database)
        self._admission = Admission(settings, database, store, peers, self._audit)
        self.door = Door(settings, Tokens(settings.tokens), peers, store, self._admission)
        self._lobby = Lobby()
        self._server = uvicorn.Server(
            _config(self._rules, StowApp(settings, self.door, store, self._audit), self._lobby)
        )
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="stow", daemon=True)
        self._listening: socket.socket | None = None

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        assert self._listening is not None
        return int(self._listening.getsockname()[1])

    def start(self) -> None:
        """Bind and serve.

        Raises
        ------
        OSError
            If the address is not available.
        """
        self._listening = listen_on(self._rules.host, self._rules.port)
        self._admission.start()
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def look(self) -> None:
        """Tell the audit log what long requests have brought; close alerts about refusals."""
        self._audit.report_quiet()
        self._admission.close_alerts()

    def stop(self) -> None:
        """Accept nothing more, and give requests some seconds to end."""
        self._server.should_exit = True
        self._thread.join(_STOP_GRACE_S + 5)
        self._admission.stop()
        self._audit.report_all()
        if self._listening is not None:
            self._listening.close()

    async def _serve(self) -> None:
        asyncio.get_running_loop().set_exception_handler(self._lobby.on_loop_error)
        await self._server.serve(sockets=[cast("socket.socket", self._listening)])


def run_stow(settings: NodeSettings, database: Database, stop: StopFlag) -> None:
    """Serve until asked to stop.

    Raises
    ------
    SettingsError
        If STOW-RS is not enabled, or a token is wrong.
    NodeError
        If the port is not available, or the server ends by itself.
    """
    rules = settings.dicomweb
    if not rules.enabled:
        raise SettingsError(["dicomweb: enabled is false, so nobody may store; set it to true"])
    keep_memory_flat()
    server = StowServer(settings, database, InstanceStore.of(settings, database))
    try:
        server.start()
    except OSError as error:
        raise NodeError(
            f"cannot listen on {rules.host}:{rules.port} ([dicomweb]): {error.strerror or error}"
        ) from error
    get_logger().info("stow_listening", host=rules.host, port=server.port)
    notify_ready()
    while not stop.wait(_LOOK_EVERY_S) and server.is_alive():
        attempt(server.look, "look_failed")
    is_asked = stop.is_set()
    server.stop()
    if not is_asked:
        raise NodeError("the STOW-RS server ended by itself")
    get_logger().info("stopped")


def _config(rules: DicomwebRules, app: StowApp, lobby: Lobby) -> uvicorn.Config:
    # Made now, so that files which cannot be used end the start.
    tls = None if rules.tls_cert is None else server_context(rules.tls_cert, rules.tls_key, rules.tls_ca)
    return uvicorn.Config(
        app,
        # uvicorn calls what it gets here, for each connection.
        http=cast("Any", partial(GuardedProtocol, lobby=lobby, answer_within_s=rules.request_timeout_s + _ANSWER_S)),
        ssl_context_factory=None if tls is None else partial(_given, tls),
        backlog=BACKLOG,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        # An address that a header names may be a lie: what counts is who is connected.
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_STOP_GRACE_S,
    )


def _given(context: ssl.SSLContext, *arguments: object) -> ssl.SSLContext:
    """What uvicorn asks for a context."""
    return context
