"""The web process. If its port is in use, it raises an alert and tries again; that never ends the node."""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import partial
from typing import Any, cast

import uvicorn

from dicom_node.alerts.record import try_to_close, try_to_raise
from dicom_node.database.connection import Database
from dicom_node.database.words import AlertKind
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import WebRules
from dicom_node.system.lifecycle import StopFlag, notify_ready
from dicom_node.system.log import get_logger
from dicom_node.web.app import make_app
from dicom_node.web.connections import GuardedProtocol, Lobby
from dicom_node.web.listening import BACKLOG, listen_on

_TRY_AGAIN_S = 10.0


def run_web(settings: NodeSettings, database: Database, stop: StopFlag) -> None:
    """Serve until asked to stop."""
    listening = _listen_patiently(settings.web, database, stop)
    if listening is None:
        return
    lobby = Lobby()
    server = uvicorn.Server(_config(settings, database, lobby))
    # uvicorn runs in another thread because it takes over signals in the main thread, and signals are ours.
    thread = threading.Thread(target=asyncio.run, args=(_serve(server, lobby, listening),), name="web", daemon=True)
    thread.start()
    get_logger().info("web_listening", host=settings.web.host, port=listening.getsockname()[1])
    notify_ready()
    while not stop.wait(1) and thread.is_alive():
        pass
    server.should_exit = True
    thread.join(timeout=5)
    listening.close()
    get_logger().info("stopped")


async def _serve(server: uvicorn.Server, lobby: Lobby, listening: socket.socket) -> None:
    asyncio.get_running_loop().set_exception_handler(lobby.on_loop_error)
    await server.serve(sockets=[listening])


def _config(settings: NodeSettings, database: Database, lobby: Lobby) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(settings, database),
        # uvicorn calls what it gets here, for each connection.
        http=cast("Any", partial(GuardedProtocol, lobby=lobby)),
        backlog=BACKLOG,
        ws="none",
        lifespan="off",
        log_config=None,
        # A warning for each request that is no HTTP would let strangers write the log.
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
    )


def _listen_patiently(web: WebRules, database: Database, stop: StopFlag) -> socket.socket | None:
    """The listening socket, or None if asked to stop. While the address is not available, an alert is open."""
    where, told = f"{web.host}:{web.port}", False
    while not stop.is_set():
        try:
            listening = listen_on(web.host, web.port)
        except OSError as error:
            if not told:
                why = f"cannot listen on {where}: {error.strerror or error}; receiving goes on, set another [web] port"
                get_logger().error("web_unavailable", host=web.host, port=web.port, why=why)
                try_to_raise(database, AlertKind.WEB_UNAVAILABLE, where, why)
                notify_ready()
            told = True
            stop.wait(_TRY_AGAIN_S)
            continue
        try_to_close(database, AlertKind.WEB_UNAVAILABLE, where)
        return listening
    return None
