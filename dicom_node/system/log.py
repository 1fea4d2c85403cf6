"""Logs: one JSON object per line on standard output, without patient data.

Only UIDs, AE titles, addresses, counts and the node's own words are logged. Messages of exceptions are not logged:
decoders and parsers put values of the data set into them, and such a value may be a patient's name. An exception
appears as its type and the place where it was raised.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
import warnings
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Quoted text that pynetdicom's own messages contain; everything else in quotes may come from a peer.
_HARMLESS = re.compile(r"'(0x[0-9A-F]+|Evt\d+|Sta\d+|[A-Z]{2}-\d+)'")
# Loggers whose messages may hold values of a data set, URLs, or what a web server says.
_SILENCED = ("pydicom", "pynetdicom.events", "highdicom", "PIL", "dicomweb_client", "urllib3")


def configure_logging(level: str = "info", *, process: str = "node", stream: TextIO | None = None) -> None:
    """Send all logs of this process to ``stream`` (standard output), tagged with ``process``."""

    def add_process(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        """Tag the lines of every thread; a context variable would reach only those of the main thread."""
        event.setdefault("process", process)
        return event

    shared: list[Any] = [
        add_process,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_without_message,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, _library_message],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _in_order,
            structlog.processors.JSONRenderer(default=str),
        ],
    )
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS[level])
    _tame_libraries()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=False,
    )
    threading.excepthook = _log_thread_exception


def get_logger() -> Any:
    """A logger; keyword arguments become fields of the JSON object."""
    return structlog.get_logger()


def describe(error: BaseException) -> str:
    """The type of an exception and the place where it was raised, never its message."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    place = frames[-1]
    return f"{type(error).__name__} at {place.filename.rsplit('/', 1)[-1]}:{place.lineno}"


def printable(text: object, limit: int = 64) -> str:
    """Text from outside made fit for one line: no control characters, bounded length."""
    return "".join(c if c.isprintable() else "?" for c in str(text)[:limit])


def _exception_without_message(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event


def _in_order(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Put the time, the level, the process and the event first on the line."""
    first = {key: event[key] for key in ("timestamp", "level", "process", "event") if key in event}
    return {**first, **event}


def _log_thread_exception(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        get_logger().error("thread_failed", exc_info=arguments.exc_value)


def _library_message(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Clean a line that a library logs.

    Some lines carry an exception as their message (``LOGGER.exception(exc)``): only its type and place may pass. Values
    that a peer has sent may not pass either: a data set that is taken for a PDU puts a name where an AE title should
    be.
    """
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
        if isinstance(record.msg, BaseException):
            event["event"] = describe(record.msg)
        elif record.name.startswith("pynetdicom"):
            event["event"] = _without_values(str(event.get("event", "")))
    event["event"] = printable(event.get("event", ""), 300)
    return event


def _without_values(text: str) -> str:
    """The message without its quoted text, unless that is the number of a PDU, an event, a state or an action."""
    rest = _HARMLESS.sub("", text)
    return re.sub(r"'.*'?", "'...'", text, flags=re.DOTALL) if "'" in rest else text


def _tame_libraries() -> None:
    for name in _SILENCED:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for name in ("pynetdicom", "alembic", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pydicom")
    warnings.filterwarnings("ignore", module="highdicom")
