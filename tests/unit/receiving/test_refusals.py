"""Reasons for refusing an association: words that people and metrics know, and codes of PS3.8 9.3.4."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dicom_node.receiving.pdus import reject
from dicom_node.receiving.refusals import UNKNOWN_VERSION, Refusal

# The label values of `spineone_associations_refused_total`, and what peers are answered.
EXPECTED = {
    "wrong called AE title": (1, 1, 7),
    "unknown calling AE title": (1, 1, 3),
    "address not allowed": (1, 1, 1),
    "certificate of another peer": (1, 1, 1),
    "no token of a peer": (1, 1, 3),
    "disk reserve": (2, 3, 1),
    "too many associations": (2, 3, 2),
    "too many associations of this peer": (2, 3, 2),
}


def test_refusals__words_and_codes() -> None:
    assert {refusal.words: tuple(refusal.rejection) for refusal in Refusal} == EXPECTED
    assert [refusal.words for refusal in Refusal] == list(EXPECTED)


def test_refusals__only_those_about_the_caller_are_for_the_audit_log() -> None:
    about_caller = {refusal for refusal in Refusal if refusal.is_about_caller}
    assert about_caller == {
        Refusal.WRONG_CALLED_AE,
        Refusal.UNKNOWN_CALLING_AE,
        Refusal.ADDRESS,
        Refusal.CERTIFICATE,
        Refusal.TOKEN,
    }


@pytest.mark.parametrize("address", ["10.0.0.1", "fe80::1%eth0"])
@pytest.mark.parametrize("refusal", Refusal)
def test_alert__says_which_refusal_it_is_about(refusal: Refusal, address: str) -> None:
    subject = refusal.alert_subject(address)
    assert subject == f"{address}: {refusal.words}"
    assert Refusal.of_alert(subject) is refusal


def test_alert__about_something_else_is_no_refusal() -> None:
    assert Refusal.of_alert("ROUTER: an object is too large") is None
    assert Refusal.of_alert("10.0.0.1") is None


def test_reject__is_an_a_associate_rj() -> None:
    assert reject(Refusal.DISK_RESERVE.rejection) == bytes.fromhex("03000000000400020301")
    assert reject(UNKNOWN_VERSION) == bytes.fromhex("03000000000400010202")


def test_import__needs_no_library() -> None:
    code = (
        "import sys, dicom_node.receiving.refusals; "
        "sys.exit(bool({'pynetdicom', 'pydicom', 'sqlalchemy', 'structlog'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
