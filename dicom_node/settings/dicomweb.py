"""The tables of the settings file about DICOMweb."""

from __future__ import annotations

from pydantic import model_validator

from dicom_node.settings.types import AETitle, ExistingFile, Fingerprint, Port, Section, setting


class DicomwebRules(Section):
    """Receiving by STOW-RS, with a token for each peer; the limits of `[listener]` on objects and memory hold here too."""

    enabled: bool = setting(False, "whether `serve` starts the STOW-RS process")
    host: str = setting("127.0.0.1", 'address to listen on; "0.0.0.0" for all', min_length=1)
    port: Port = setting(8081, "TCP port to listen on")
    tls_cert: ExistingFile | None = setting(None, "certificate (PEM) of the node; turns TLS on")
    tls_key: ExistingFile | None = setting(None, "private key (PEM) of the certificate")
    tls_ca: ExistingFile | None = setting(
        None, "CA certificates (PEM); if given, each client must also show a certificate from one of them"
    )
    max_requests: int = setting(25, "requests served at the same time", ge=1, le=500)
    max_parts: int = setting(10000, "most instances in one request", ge=1, le=1000000)
    max_request_gb: float = setting(10.0, "largest request", unit="GB", gt=0, le=1000)
    idle_timeout_s: float = setting(60.0, "silence after which a request is given up", unit="s", gt=0, le=3600)
    request_timeout_s: float = setting(3600.0, "time for one whole request", unit="s", gt=0, le=86400)

    @model_validator(mode="after")
    def _complete_tls(self) -> DicomwebRules:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or none")
        if self.tls_ca is not None and self.tls_cert is None:
            raise ValueError("tls_ca needs tls_cert and tls_key")
        return self


class Token(Section):
    """With which token a peer stores by STOW-RS (`Authorization: Bearer`). A peer may have several, to change them."""

    peer: AETitle = setting(..., "AE title of the [[peers]] table that the token stands for", example="ROUTER")
    sha256: Fingerprint | None = setting(
        None, "SHA-256 of the token, 64 hexadecimal digits (printf %s TOKEN | sha256sum)"
    )
    file: ExistingFile | None = setting(None, "or the file that holds the token and nothing else")
    env: str = setting("", "or the name of an environment variable that holds it")

    @model_validator(mode="after")
    def _one_place(self) -> Token:
        # That there is one is checked when it is read: the settings are read for other purposes too.
        if sum(map(bool, (self.sha256, self.file, self.env))) > 1:
            raise ValueError("give one of sha256, file and env")
        return self
