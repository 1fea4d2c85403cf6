"""Certificates that openssl makes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """A certificate authority and what it signed, and others that it did not."""

    folder: Path

    def pair(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def make(self, name: str, *, days: int = 2, host: str = "IP:127.0.0.1", signed: bool = True) -> None:
        cert, key = self.pair(name)
        request = self.folder / f"{name}.csr"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={host}\n")
        self._openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        issuer = ["-CA", self.folder / "ca.pem", "-CAkey", self.folder / "ca.key", "-CAcreateserial"]
        by = issuer if signed else ["-signkey", key]
        self._openssl("x509", "-req", "-in", request, *by, "-days", days, "-extfile", extensions, "-out", cert)

    def make_authority(self) -> None:
        cert, key = self.pair("ca")
        self._openssl("req", "-x509", *_NEW_KEY, "-subj", "/CN=CA", "-days", 2, "-keyout", key, "-out", cert)

    def fingerprint(self, name: str) -> str:
        """The SHA-256 as openssl writes it: hexadecimal digits with colons."""
        cert, _ = self.pair(name)
        return self._openssl("x509", "-noout", "-fingerprint", "-sha256", "-in", cert).strip().partition("=")[2]

    def _openssl(self, *arguments: object) -> str:
        return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, text=True).stdout
