"""A message by e-mail and by webhook, to real servers on this machine."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import ssl
from pathlib import Path
from typing import Any

import pytest

from dicom_node.alerts.channels import SIGNATURE_HEADER, Message, channel_to
from dicom_node.errors import NotifyError
from dicom_node.settings.sections import Email, Webhook
from tests.fakes.certificates import Certificates
from tests.fakes.post import PASSWORD, USER, running_mail_server, running_web_server
from tests.fakes.scu import free_port

MESSAGE = Message("[SPINEONE] alerts: 1 new (quarantine)", "one line\nand an umlaut: ü\n", {"text": "ü", "alerts": []})
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.make_authority()
    made.make("good")
    made.make("self-signed", signed=False)
    return made


def server_side(certificates: Certificates, name: str = "good") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.pair(name))
    return context


def email_to(port: int, **options: Any) -> Email:
    wanted = {"security": "none", **options}
    return Email(
        name="team", to=("a@h.example", "b@h.example"), sender="n@h.example", host="127.0.0.1", port=port, **wanted
    )


def tell(receiver: Email | Webhook) -> None:
    channel_to(receiver, timeout_s=5).send(MESSAGE)


def failure_of(receiver: Email | Webhook, *, check: bool = False) -> str:
    with pytest.raises(NotifyError) as raised:
        channel_to(receiver, timeout_s=2).check() if check else tell(receiver)
    assert PASSWORD not in str(raised.value)
    return str(raised.value)


# ---------------------------------------------------------------- e-mail


def test_mail__arrives_with_subject_text_and_addresses() -> None:
    with running_mail_server() as server:
        channel_to(email_to(server.port), timeout_s=5).check()
        assert not server.mails
        tell(email_to(server.port))
        (mail,) = server.mails
    assert (mail["Subject"], mail["From"], mail["To"]) == (MESSAGE.subject, "n@h.example", "a@h.example, b@h.example")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().replace("\r\n", "\n") == MESSAGE.text


@needs_openssl
def test_mail__by_starttls_with_a_password_from_a_file_or_the_environment(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    tls = {"security": "starttls", "tls_ca": certificates.folder / "ca.pem", "user": USER}
    with running_mail_server(server_side(certificates)) as server:
        for source in ({"password_file": tmp_path / "password"}, {"password_env": "MAIL_PASSWORD"}):
            receiver = email_to(server.port, **tls, **source)
            channel_to(receiver, timeout_s=5).check()
            tell(receiver)
        assert len(server.mails) == 2
        (tmp_path / "password").write_text("wrong")
        wrong = email_to(server.port, **tls, password_file=tmp_path / "password")
        assert "535" in failure_of(wrong)
        assert "535" in failure_of(wrong, check=True)
        monkeypatch.delenv("MAIL_PASSWORD")
        assert "MAIL_PASSWORD is not set" in failure_of(email_to(server.port, **tls, password_env="MAIL_PASSWORD"))
        stranger = email_to(server.port, security="starttls")
        assert "certificate is not good" in failure_of(stranger)
        assert len(server.mails) == 2


def test_mail__what_fails_is_said() -> None:
    assert "refused" in failure_of(email_to(free_port()))
    with running_mail_server() as server:
        # A server without STARTTLS gets nothing: the mail would travel in the clear.
        assert "STARTTLS" in failure_of(email_to(server.port, security="starttls"))
        server.answer = "452 4.3.1 mailbox is full"
        assert "452 4.3.1 mailbox is full" in failure_of(email_to(server.port))


# ---------------------------------------------------------------- webhook


@pytest.mark.parametrize("key", ["", "a key"])
def test_webhook__posts_json_and_signs_it(key: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(key + "\n")
    secret = {"secret_file": tmp_path / "key"} if key else {}
    with running_web_server() as server:
        hook = Webhook(name="pager", url=f"http://127.0.0.1:{server.port}/hook?token=x", **secret)  # type: ignore[arg-type]
        channel_to(hook, timeout_s=5).check()
        tell(hook)
        ((path, headers, body),) = server.posts
    assert path == "/hook?token=x"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == MESSAGE.payload
    expected = "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest() if key else None
    assert headers[SIGNATURE_HEADER] == expected


def test_webhook__only_a_good_status_counts() -> None:
    with running_web_server() as server:
        hook = Webhook(name="pager", url=f"http://127.0.0.1:{server.port}/secret-place")
        server.status = 500
        assert "500" in failure_of(hook)
        server.status, server.headers = 302, {"Location": "/elsewhere"}
        assert "302" in failure_of(hook)
        assert len(server.posts) == 2
    said = failure_of(hook)
    assert "refused" in said
    assert "secret-place" not in said


@needs_openssl
def test_webhook__by_https_only_to_whom_it_can_trust(certificates: Certificates) -> None:
    authority = certificates.folder / "ca.pem"
    with running_web_server(server_side(certificates)) as server:
        url = f"https://127.0.0.1:{server.port}/hook"
        good = Webhook(name="pager", url=url, tls_ca=authority)
        channel_to(good, timeout_s=5).check()
        tell(good)
        assert len(server.posts) == 1
        assert "certificate is not good" in failure_of(Webhook(name="pager", url=url))
    with running_web_server(server_side(certificates, "self-signed")) as server:
        false = Webhook(name="pager", url=f"https://127.0.0.1:{server.port}/hook", tls_ca=authority)
        assert "certificate is not good" in failure_of(false)
        assert "certificate is not good" in failure_of(false, check=True)
        assert not server.posts
