"""STOW-RS, the origin server (PS3.18 10.5): which requests are taken, and how each is answered.

A request is judged by its head alone before one byte of its body is read: first who asks, then what.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from dicom_node.audit.transfers import Receiving
from dicom_node.dicom.budget import Budget
from dicom_node.dicom.headers import is_valid_uid
from dicom_node.dicomweb.media_type import media_type_of
from dicom_node.dicomweb.multipart_reader import (
    MultipartError,
    MultipartLimits,
    MultipartReader,
    TooMuchError,
    is_boundary,
)
from dicom_node.dicomweb.store_answer import MEDIA_TYPE, Told
from dicom_node.images.incoming import CANNOT_UNDERSTAND, OUT_OF_RESOURCES
from dicom_node.images.store import InstanceStore
from dicom_node.receiving.parts import DICOM, Parts, noting
from dicom_node.receiving.refusals import Refusal
from dicom_node.receiving.visits import Door, Visit
from dicom_node.settings.node import NodeSettings
from dicom_node.system.log import get_logger

ROOT = "/dicom-web/studies"
_RETRY_AFTER_S = "60"
_JSON = ("application/dicom+json", "application/json", "application/*", "*/*")
_WRONG_TYPE = (
    'the body must be multipart/related; type="application/dicom", and neither compressed nor metadata and bulk data'
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the head of a good request says."""

    study_uid: str
    boundary: str


class _GoneError(Exception):
    """The client has left."""


class StowApp:
    """The ASGI application.

    Parameters
    ----------
    settings
        The settings of the whole node.
    door
        Knows who may store.
    store
        Keeps what comes.
    audit
        Is told of each instance.
    """

    def __init__(self, settings: NodeSettings, door: Door, store: InstanceStore, audit: Receiving) -> None:
        self._rules = settings.dicomweb
        self._door, self._store, self._audit = door, store, audit
        self._budget = Budget.of(settings.listener)
        self._limits = MultipartLimits(
            most_parts=self._rules.max_parts,
            most_bytes=int(self._rules.max_request_gb * 1e9),
            most_of_part=self._budget.most_each,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive)
        except _GoneError:
            return
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        path, headers = scope["path"], Headers(scope=scope)
        if path == "/healthz":
            return PlainTextResponse("ok\n")
        if path != ROOT and not path.startswith(f"{ROOT}/"):
            return PlainTextResponse("there is only /dicom-web/studies\n", 404)
        if "content-length" in headers and "transfer-encoding" in headers:
            return _refuse(400, "a request has Content-Length or Transfer-Encoding, not both", Connection="close")
        visit = await run_in_threadpool(self._door.enter, _token_of(headers), scope["client"][0])
        if isinstance(visit, Refusal):
            return _refusal(visit)
        try:
            asked = self._asked(scope, headers)
            return asked if isinstance(asked, Response) else await self._take(visit, asked, receive)
        finally:
            self._door.leave(visit)
            self._budget.give_back(visit)
            await run_in_threadpool(self._audit.ended, visit)

    def _asked(self, scope: Scope, headers: Headers) -> _Asked | Response:
        study_uid = scope["path"].removeprefix(ROOT).removeprefix("/")
        media_type = media_type_of(headers.get("content-type", ""))
        if scope["method"] != "POST":
            return _refuse(405, "instances are stored by POST; nothing can be asked for or retrieved", Allow="POST")
        if study_uid and not is_valid_uid(study_uid):
            return _refuse(400, "the path ends with something that is no Study Instance UID")
        if media_type is None or media_type.name != "multipart/related":
            return _refuse(415, _WRONG_TYPE)
        if (
            media_type.parameters.get("type", DICOM).lower() != DICOM
            or headers.get("content-encoding", "identity") != "identity"
        ):
            return _refuse(415, _WRONG_TYPE)
        if not is_boundary(media_type.parameters.get("boundary", "")):
            return _refuse(400, "the Content-Type has no boundary, or one that is none")
        if not _takes_json(headers):
            return _refuse(406, f"the answer is {MEDIA_TYPE}")
        if int(headers.get("content-length", "0")) > self._limits.most_bytes:
            return _refuse(413, "the request is larger than [dicomweb] max_request_gb")
        return _Asked(study_uid, media_type.parameters["boundary"])

    async def _take(self, visit: Visit, asked: _Asked, receive: Receive) -> Response:
        """Read the body and keep its parts; whatever ends it early, what was kept is in the answer."""
        parts = Parts(visit, self._store, self._budget, noting(self._audit, visit), asked.study_uid)
        problem, status, reason = "", 0, 0
        try:
            async with asyncio.timeout(self._rules.request_timeout_s):
                await self._read(MultipartReader(asked.boundary, self._limits), parts, receive)
        except TimeoutError:
            problem, status, reason = "the body does not come, or comes too slowly", 408, OUT_OF_RESOURCES
        except TooMuchError as error:
            problem, status, reason = str(error), 413, OUT_OF_RESOURCES
        except MultipartError as error:
            problem, status, reason = str(error), 400, CANNOT_UNDERSTAND
        answer = parts.answer
        get_logger().info(
            "stow_request",
            calling_ae=visit.requestor.ae_title,
            address=visit.requestor.address,
            stored=len(answer.stored),
            failed=len(answer.failed),
            why=problem,
        )
        if problem:
            answer.note(Told(), reason)
        elif not answer.stored and not answer.failed:
            return _refuse(400, "the body has no part")
        # What was stored is said in any case: 202 names it, and the failure that belongs to no instance.
        status = status if status and not answer.stored else answer.status()
        more = {"Retry-After": _RETRY_AFTER_S} if status == 503 else {}
        return Response(answer.body(), status, media_type=MEDIA_TYPE, headers=more)

    async def _read(self, reader: MultipartReader, parts: Parts, receive: Receive) -> None:
        is_more = True
        while is_more:
            async with asyncio.timeout(self._rules.idle_timeout_s):
                message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            for event in reader.feed(message.get("body", b"")):
                if (step := parts.take(event)) is not None:
                    await run_in_threadpool(step)
            is_more = message.get("more_body", False)
        reader.close()


def _token_of(headers: Headers) -> str:
    """The Bearer token (RFC 6750 2.1); empty if there is none, or more than one."""
    shown = headers.getlist("authorization")
    scheme, _, token = shown[0].partition(" ") if len(shown) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _takes_json(headers: Headers) -> bool:
    accepted = headers.get("accept", "")
    names = [media_type.name for part in accepted.split(",") if (media_type := media_type_of(part)) is not None]
    return not accepted or any(name in _JSON for name in names)


def _refusal(why: Refusal) -> Response:
    if why is Refusal.TOKEN:
        # RFC 9110 11.6.1: 401 says how to log in.
        return _refuse(
            401, "a token is needed: Authorization: Bearer ...", **{"WWW-Authenticate": 'Bearer realm="dicom-web"'}
        )
    if why.is_about_caller:
        return _refuse(403, f"refused: {why.words}")
    return _refuse(503, f"busy: {why.words}", **{"Retry-After": _RETRY_AFTER_S})


def _refuse(status: int, why: str, **headers: str) -> Response:
    return PlainTextResponse(f"{why}\n", status, headers)
