"""A session calls one origin, follows nothing, and reads no answer without an end."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest
import requests

from dicom_node.system.http_session import AnswerError, HttpSession
from dicom_node.system.tls import client_context
from tests.fakes.certificates import Certificates
from tests.fakes.raw_server import running_raw_server
from tests.fakes.web_archive import running_web_archive

TOKEN = "Bearer secret-of-the-node"
HEAD = b"HTTP/1.1 200 OK\r\n"
# Of a body that is read block by block.
LIMITS: dict[str, Any] = {"most_bytes": 1_000_000, "silence_s": 5, "longest_s": 5}


def session_to(url: str, *, context: ssl.SSLContext | None = None, timeout_s: float = 5) -> HttpSession:
    session = HttpSession(url, context, timeout_s=timeout_s, most_bytes=1000)
    session.headers["Authorization"] = TOKEN
    return session


def error_of(blocks: list[bytes], *, timeout_s: float = 5, pause_s: float = 0) -> requests.RequestException:
    with running_raw_server(blocks, pause_s=pause_s) as server:
        url = f"http://127.0.0.1:{server.port}/"
        with session_to(url, timeout_s=timeout_s) as session, pytest.raises(requests.RequestException) as raised:
            session.get(url)
    return raised.value


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirection__is_an_answer_and_the_token_goes_nowhere_else(status: int) -> None:
    with running_web_archive() as one, running_web_archive() as other:
        one.headers = {"Location": other.url}
        one.finds = lambda: (status, b"x" * 500)
        with session_to(one.url) as session:
            answer = session.get(one.url)
        assert (answer.status_code, len(answer.content)) == (status, 500)
        assert [login for _, _, login in one.asked] == [TOKEN]
        assert other.asked == []


def test_another_origin__gets_nothing() -> None:
    with running_web_archive() as one, running_web_archive() as other, session_to(one.url) as session:
        with pytest.raises(requests.exceptions.InvalidURL):
            session.get(other.url)
        with pytest.raises(requests.exceptions.InvalidURL), session.reading(other.url, {}, **LIMITS):
            """Nothing is sent."""
        assert other.asked == []


def test_reading__gives_the_body_in_blocks_and_follows_nothing() -> None:
    with running_web_archive() as one, running_web_archive() as other, session_to(one.url) as session:
        one.headers = {"Location": other.url}
        one.finds = lambda: (302, b"x" * 200_000)
        with session.reading(one.url, {"Accept": "a/b"}, **LIMITS) as (answer, blocks):
            sizes = [len(block) for block in blocks]
        assert (answer.status_code, sum(sizes)) == (302, 200_000)
        assert max(sizes) <= 65536
        assert [login for _, _, login in one.asked] == [TOKEN]
        assert other.asked == []


def test_reading__that_ends_early_closes_the_connection() -> None:
    with running_web_archive() as one, session_to(one.url) as session:
        one.finds = lambda: (200, b"x" * 200_000)
        with session.reading(one.url, {}, **LIMITS) as (_, blocks):
            assert next(blocks)
        one.finds = lambda: (200, b"[]")
        assert session.get(one.url).content == b"[]"


def test_environment__has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with running_web_archive() as one, running_web_archive() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        with session_to(one.url) as session:
            assert session.get(one.url).status_code == 204
        assert [login for _, _, login in one.asked] == [TOKEN]
        assert proxy.asked == []


@pytest.mark.parametrize(
    "blocks",
    [
        [HEAD + b"Content-Length: 100000\r\n\r\n", b"x" * 100_000],
        [HEAD + b"\r\n", b"x" * 100_000],
        [HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n"],
    ],
    ids=["length", "no length", "chunks"],
)
def test_answer__that_is_too_large_is_not_read(blocks: list[bytes]) -> None:
    error = error_of(blocks)
    assert isinstance(error, AnswerError)
    assert "more than 1000 bytes" in str(error)


def test_answer__that_is_compressed_is_not_read() -> None:
    error = error_of([HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"])
    assert "compressed" in str(error)


def test_answer__that_breaks_off_is_none() -> None:
    assert "breaks off" in str(error_of([HEAD + b"Content-Length: 100\r\n\r\nxx"]))


def test_answer__that_trickles_has_an_end() -> None:
    blocks = [HEAD + b"Content-Length: 500\r\n\r\n", *[b"x"] * 500]
    assert "takes too long" in str(error_of(blocks, timeout_s=0.05, pause_s=0.02))


def test_silence__has_a_time_out() -> None:
    assert isinstance(error_of([b"", b""], timeout_s=0.2, pause_s=1), requests.Timeout)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls__trusts_the_given_authority_alone_and_shows_our_certificate(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    made.make_authority()
    for name in ("server", "node"):
        made.make(name)
    made.make("other-host", host="DNS:elsewhere.example")
    made.make("self-signed", signed=False)
    ca = made.folder / "ca.pem"

    def status(name: str, ours: ssl.SSLContext) -> int:
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(*made.pair(name))
        theirs.load_verify_locations(ca)
        theirs.verify_mode = ssl.CERT_REQUIRED
        with running_web_archive(theirs) as archive:
            url = archive.url.replace("http:", "https:")
            with session_to(url, context=ours) as session:
                return session.get(url).status_code

    assert status("server", client_context(ca, *made.pair("node"))) == 204
    with pytest.raises(requests.RequestException):
        status("server", client_context(ca))
    for wrong in ("other-host", "self-signed"):
        with pytest.raises(requests.exceptions.SSLError):
            status(wrong, client_context(ca, *made.pair("node")))


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_tls__adds_no_authorities_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """requests would load its own bundle into the context; here the bundle has the authority that the settings lack."""
    made, foreign = Certificates(tmp_path / "a"), Certificates(tmp_path / "b")
    for one in (made, foreign):
        one.folder.mkdir()
        one.make_authority()
    foreign.make("server")
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(foreign.folder / "ca.pem"))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setitem(os.environ, name, str(foreign.folder / "ca.pem"))
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*foreign.pair("server"))
    with running_web_archive(theirs) as archive:
        url = archive.url.replace("http:", "https:")
        context = client_context(made.folder / "ca.pem")
        with session_to(url, context=context) as session, pytest.raises(requests.exceptions.SSLError):
            session.get(url)
