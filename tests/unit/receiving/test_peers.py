"""Who may call: names that must be looked up, and certificates."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dicom_node.receiving import peers as module
from dicom_node.receiving.peers import Hosts, Peers
from dicom_node.settings.node import NodeSettings

FIRST, SECOND = "ab" * 32, "cd" * 32


class Resolver:
    """Answers with an address, or with none, and counts how often it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.answer = 0, "10.0.0.5"
        self.now = 1000.0
        monkeypatch.setattr(module.socket, "getaddrinfo", self.look_up)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def look_up(self, *arguments: object, **options: object) -> list[Any]:
        self.asked += 1
        if not self.answer:
            raise OSError("no such name")
        return [(0, 0, 0, "", (self.answer, 0))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    return Resolver(monkeypatch)


def test_hosts__a_name_is_looked_up_once_in_a_while_however_many_call(resolver: Resolver) -> None:
    hosts = Hosts()
    for _ in range(100):
        assert hosts.addresses_of("pacs.example") == {ipaddress.ip_address("10.0.0.5")}
    assert resolver.asked == 1
    resolver.answer, resolver.now = "10.0.0.6", resolver.now + module._LOOK_UP_AGAIN_S + 1
    assert hosts.addresses_of("pacs.example") == {ipaddress.ip_address("10.0.0.6")}


def test_hosts__a_failed_look_up_keeps_what_was_known(resolver: Resolver) -> None:
    hosts = Hosts()
    hosts.addresses_of("pacs.example")
    resolver.answer, resolver.now = "", resolver.now + module._LOOK_UP_AGAIN_S + 1
    for _ in range(10):
        assert hosts.addresses_of("pacs.example") == {ipaddress.ip_address("10.0.0.5")}
    assert resolver.asked == 2
    assert hosts.addresses_of("unknown.example") == set()


def settings_with(tmp_path: Path, *peers: dict[str, object], **listener: object) -> NodeSettings:
    return NodeSettings(data_dir=tmp_path, peers=peers, listener=listener)


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, object]:
    for name in ("cert", "key", "ca"):
        (tmp_path / name).write_text("-")
    return {f"tls_{name}": tmp_path / name for name in ("cert", "key", "ca")}


def test_certificate__is_bound_to_a_title_in_any_notation(tmp_path: Path, tls: dict[str, object]) -> None:
    shown_by_openssl = ":".join(FIRST.upper()[n : n + 2] for n in range(0, 64, 2))
    bound = {"ae_title": "ROUTER", "certificates": [shown_by_openssl, SECOND]}
    peers = Peers(settings_with(tmp_path, bound, {"ae_title": "OTHER"}, **tls))
    assert [peers.shows_certificate_of("ROUTER", shown) for shown in (FIRST, SECOND, "ef" * 32, "")] == [
        True, True, False, False,
    ]  # fmt: skip
    assert peers.shows_certificate_of("OTHER", "")


def test_certificate__of_all_tables_with_the_title_count(tmp_path: Path, tls: dict[str, object]) -> None:
    one, other = {"ae_title": "ROUTER", "certificates": [FIRST]}, {"ae_title": "ROUTER", "addresses": ["10.0.0.1"]}
    peers = Peers(settings_with(tmp_path, one, other, **tls))
    assert peers.shows_certificate_of("ROUTER", FIRST)
    assert not peers.shows_certificate_of("ROUTER", "")


@pytest.mark.parametrize("wrong", ["", "abc", "zz" * 32, FIRST + "ab"])
def test_certificate__that_is_no_fingerprint_is_an_error(tmp_path: Path, tls: dict[str, object], wrong: str) -> None:
    with pytest.raises(ValidationError, match="SHA-256 of a certificate"):
        settings_with(tmp_path, {"ae_title": "ROUTER", "certificates": [wrong]}, **tls)


def test_certificate__needs_an_authority_or_nobody_is_asked_for_one(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="certificates of ROUTER need"):
        settings_with(tmp_path, {"ae_title": "ROUTER", "certificates": [FIRST]})
