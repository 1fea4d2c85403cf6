"""The tokens of those who store by STOW-RS. Only their digests are kept in memory, and none is ever shown."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence

from dicom_node.errors import SettingsError
from dicom_node.settings.dicomweb import Token
from dicom_node.system.secret import SecretError, read_secret

# RFC 6750 2.1; a token that may be guessed is none.
_TOKEN = re.compile(r"[0-9A-Za-z._~+/-]{20,1000}=*")


class Tokens:
    """Knows which peer a token stands for.

    Parameters
    ----------
    tokens
        The settings' tables.

    Raises
    ------
    SettingsError
        If a token is not there, is too short, is no Bearer token, or stands for two peers. All problems are listed.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._digests: list[tuple[bytes, str]] = []
        problems = []
        for token in tokens:
            try:
                digest = _digest_of(token)
            except (SecretError, ValueError) as error:
                problems.append(f"tokens: the token of {token.peer}: {error}")
                continue
            twice = next((peer for known, peer in self._digests if known == digest), None)
            if twice is not None:
                problems.append(
                    f"tokens: the token of {token.peer} is that of {twice} too: one token stands for one peer, once"
                )
            self._digests.append((digest, token.peer))
        if problems:
            raise SettingsError(problems)

    def peer_of(self, token: str) -> str | None:
        """The AE title that a token stands for; None if it is nobody's. Each is compared in constant time."""
        shown = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        found = None
        for digest, peer in self._digests:
            if hmac.compare_digest(digest, shown):
                found = peer
        return found


def _digest_of(token: Token) -> bytes:
    if token.sha256 is not None:
        return bytes.fromhex(token.sha256)
    if token.file is None and not token.env:
        raise ValueError("give one of sha256, file and env")
    text = read_secret(token.file, token.env)
    if not _TOKEN.fullmatch(text):
        raise ValueError("must have at least 20 letters, digits or -._~+/ (openssl rand -hex 32 makes one)")
    return hashlib.sha256(text.encode("ascii")).digest()
