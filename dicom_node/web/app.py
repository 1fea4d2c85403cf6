"""The pages `/healthz`, `/readyz` and `/metrics`, and the status page `/`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.database.connection import Database
from dicom_node.health.metrics import NodeCollector
from dicom_node.health.readiness import Check, checks
from dicom_node.settings.node import NodeSettings
from dicom_node.system.log import get_logger
from dicom_node.web.request_guard import RequestGuard
from dicom_node.web.status_page import render_page
from dicom_node.web.viewers import Viewers

Made = TypeVar("Made")
# A page is made at most once in this time (seconds), however many clients ask for it; readiness more often.
KEEP_S, KEEP_READINESS_S = 2.0, 0.5
# How many threads of the pool (starlette's has 40) wait for pages, and for readiness: no page holds readiness up.
_PAGE_THREADS, _READINESS_THREADS = 8, 4
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Kept(Generic[Made]):
    """Something that is made again once the last one is too old; only one request at a time makes it."""

    def __init__(self, make: Callable[[], Made], keep_s: float = KEEP_S) -> None:
        self._make = make
        self._keep_s = keep_s
        self._lock = threading.Lock()
        self._last: tuple[float, Made] | None = None

    def get(self) -> Made:
        """What was made last."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > self._keep_s:
                made = self._make()
                self._last = time.monotonic(), made
            return self._last[1]


class SafeHeaders:
    """Adds the headers that keep a browser from running, framing or storing anything."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def make_app(settings: NodeSettings, database: Database) -> ASGIApp:
    """The web application of a node."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(settings, database))
    metrics = Kept(lambda: generate_latest(registry))
    page = Kept(lambda: render_page(settings, database))
    viewers = Viewers(settings, database)
    style = files("dicom_node.web").joinpath("style.css").read_bytes()

    readiness = Kept(lambda: checks(settings, database), KEEP_READINESS_S)
    for_pages, for_readiness = asyncio.Semaphore(_PAGE_THREADS), asyncio.Semaphore(_READINESS_THREADS)

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        return _readiness(await _in_thread(readiness, for_readiness))

    async def show_metrics(request: Request) -> Response:
        return Response(await _in_thread(metrics, for_pages), media_type=CONTENT_TYPE_LATEST)

    async def show_page(request: Request) -> Response:
        shown = await _in_thread(page, for_pages)
        if shown.named_studies:
            address = request.client.host if request.client else ""
            await run_in_threadpool(viewers.note, address, shown.named_studies)
        return HTMLResponse(shown.html)

    async def show_style(request: Request) -> Response:
        return Response(style, media_type="text/css")

    routes = {
        "/": show_page,
        "/style.css": show_style,
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": show_metrics,
    }
    app = Starlette(
        routes=[Route(path, show, methods=["GET"]) for path, show in routes.items()],
        exception_handlers={Exception: _unexpected},
    )
    return SafeHeaders(RequestGuard(app, settings.web.hosts))


async def _in_thread(kept: Kept[Made], places: asyncio.Semaphore) -> Made:
    async with places:
        return await run_in_threadpool(kept.get)


def _readiness(seen: list[Check]) -> Response:
    is_ready = all(check.is_well for check in seen)
    body = {"ready": is_ready, "checks": {c.name: {"ok": c.is_well, "detail": c.seen} for c in seen}}
    return JSONResponse(body, status_code=200 if is_ready else 503)


def _unexpected(request: Request, error: Exception) -> Response:
    """Write one log line without the error's message, and answer with one line for the reader."""
    get_logger().error("page_failed", path=request.url.path, exc_info=error)
    return PlainTextResponse(
        "this page cannot be made now; the node's log says why (/readyz may too)\n", status_code=503
    )
