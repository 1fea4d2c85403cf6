from __future__ import annotations

import io
import json
import logging
import threading
from typing import Any

import pytest

from dicom_node.system.log import configure_logging, get_logger, printable


@pytest.fixture
def written() -> Any:
    stream = io.StringIO()
    configure_logging("info", process="test", stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def fail() -> None:
    raise ValueError("DOE^JOHN is no number")


def test_line__is_one_json_object_with_the_process(written: Any) -> None:
    get_logger().info("study_complete", study_uid="1.2")
    (line,) = written()
    assert (line["event"], line["process"], line["level"], line["study_uid"]) == (
        "study_complete", "test", "info", "1.2",
    )  # fmt: skip
    assert list(line)[:4] == ["timestamp", "level", "process", "event"]


def test_line__of_a_thread_and_of_a_library_names_the_process_too(written: Any) -> None:
    for log in (get_logger().info, logging.getLogger("alembic").warning):
        thread = threading.Thread(target=log, args=("elsewhere",))
        thread.start()
        thread.join()
    assert [line["process"] for line in written()] == ["test", "test"]


def test_exception__appears_without_its_message(written: Any) -> None:
    try:
        fail()
    except ValueError:
        get_logger().exception("failed")
    (line,) = written()
    assert line["exception"].startswith("ValueError at test_log.py:")
    assert "DOE" not in json.dumps(line)


def test_exception__of_a_library_appears_without_its_message(written: Any) -> None:
    library = logging.getLogger("pynetdicom.dul")
    try:
        fail()
    except ValueError as error:
        library.exception(error)
        library.error("Unable to decode", exc_info=True)
    assert len(written()) == 2
    assert "DOE" not in json.dumps(written())


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Invalid 'Called AE Title' value 'DOE^JOHN' - must not", "Invalid '...'"),
        ("Non-conformant value '1.2'DOE^JOHN", "Non-conformant value '...'"),
        ("Unknown PDU type received '0x2E'", "Unknown PDU type received '0x2E'"),
        ("Invalid event 'Evt9' for the current state 'Sta13'", "Invalid event 'Evt9' for the current state 'Sta13'"),
    ],
)
def test_message__of_pynetdicom_appears_without_what_a_peer_sent(written: Any, message: str, shown: str) -> None:
    logging.getLogger("pynetdicom.pdu").error(message)
    assert [line["event"] for line in written()] == [shown]


def test_exception__of_a_thread_appears_without_its_message(written: Any, capfd: pytest.CaptureFixture[str]) -> None:
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert written()[0]["event"] == "thread_failed"
    assert "DOE" not in capfd.readouterr().err + json.dumps(written())


def test_pydicom__says_nothing(written: Any) -> None:
    logging.getLogger("pydicom").error("value DOE^JOHN is too long")
    assert written() == []


def test_printable__has_no_control_characters() -> None:
    assert printable("A\x1b[31m\nB" + "C" * 100, 10) == "A?[31m?BCC"
