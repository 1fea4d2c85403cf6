"""Tokens: whose they are, and which are none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dicom_node.errors import SettingsError
from dicom_node.receiving.tokens import Tokens
from dicom_node.settings.dicomweb import Token
from dicom_node.settings.reading import load_settings

ONE, TWO = "a-token-of-the-router-0123456789", "another-token-of-it-0123456789=="
DIGEST = hashlib.sha256(ONE.encode()).hexdigest()


def test_peer_of__by_digest_file_or_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(TWO + "\n")
    monkeypatch.setenv("A_TOKEN", "the-token-of-the-modality")
    tokens = Tokens(
        [
            Token(peer="ROUTER", sha256=DIGEST.upper()),
            Token(peer="ROUTER", file=tmp_path / "token"),
            Token(peer="MODALITY", env="A_TOKEN"),
        ]
    )
    shown = (ONE, TWO, "the-token-of-the-modality", "", ONE[:-1], f"{ONE} ", ONE.upper(), DIGEST, "\u00e4\ud800")
    assert [tokens.peer_of(token) for token in shown] == ["ROUTER", "ROUTER", "MODALITY", *[None] * 6]
    assert ONE not in repr(vars(tokens))


def test_tokens__that_are_wrong_are_all_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORT", "short")
    monkeypatch.setenv("ODD", "a token with spaces and so on")
    monkeypatch.setenv("SAME", ONE)
    (tmp_path / "empty").write_text("\n")
    wrong = [
        Token(peer="A", sha256=DIGEST),
        Token(peer="B", env="SAME"),
        Token(peer="C", env="SHORT"),
        Token(peer="D", env="ODD"),
        Token(peer="E", env="NOT_SET"),
        Token(peer="F", file=tmp_path / "empty"),
        Token(peer="G"),
    ]
    with pytest.raises(SettingsError) as raised:
        Tokens(wrong)
    problems = raised.value.problems
    says = ("is that of A too", "20 letters", "20 letters", "NOT_SET is not set", "empty is empty", "give one of")
    assert len(problems) == len(says)
    for problem, peer, words in zip(problems, "BCDEFG", says, strict=True):
        assert problem.startswith(f"tokens: the token of {peer}")
        assert words in problem
    assert not any(secret in str(raised.value) for secret in (ONE, "short", "spaces"))


PEER = '[[peers]]\nae_title = "ROUTER"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[tokens]]\npeer = "OTHER"\nenv = "A"\n', "tokens: OTHER is no ae_title in [[peers]]"),
        (PEER + 2 * '[[tokens]]\npeer = "ROUTER"\nenv = "A"\n', "tokens: a token of ROUTER is there twice"),
        (
            PEER + '[[tokens]]\npeer = "ROUTER"\nenv = "A"\nsha256 = "' + DIGEST + '"\n',
            "give one of sha256, file and env",
        ),
        (PEER + '[[tokens]]\npeer = "ROUTER"\nfile = "gone"\n', "no such file"),
        (PEER + '[[tokens]]\npeer = "ROUTER"\nsha256 = "12"\n', "64 hexadecimal digits"),
        ("[dicomweb]\nenabled = true\n", "nobody could store: [[tokens]] is empty"),
        ('[dicomweb]\ntls_ca = "node.toml"\n', "tls_ca needs tls_cert and tls_key"),
        ('[dicomweb]\ntls_cert = "node.toml"\n', "tls_cert and tls_key belong together"),
        (
            PEER + '[[tokens]]\npeer = "ROUTER"\nenv = "A"\n[dicomweb]\nenabled = true\nport = 8080\n',
            "web: port 8080 is that of [dicomweb] already",
        ),
        (
            PEER
            + '[[tokens]]\npeer = "ROUTER"\nenv = "A"\n[dicomweb]\nenabled = true\nport = 11112\nhost = "0.0.0.0"\n',
            "dicomweb: port 11112 is that of [listener] already",
        ),
    ],
)
def test_settings__that_contradict_each_other_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        load_settings(path)
    assert says in str(raised.value)
