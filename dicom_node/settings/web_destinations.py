"""The tables of destinations and archives that are called by HTTP, beside those of DICOM associations (`sections`)."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from dicom_node.database.words import SENT_ROLES
from dicom_node.settings.types import (
    ExistingFile,
    KindOfResult,
    Name,
    NameOfSender,
    Section,
    check_base_url,
    check_system,
    setting,
)

System = Annotated[str, AfterValidator(check_system)]


class WebServer(Section):
    """A web server that the node calls, and how it logs in there."""

    name: Name = setting(..., "short unique name", example="web-archive")
    url: Annotated[str, AfterValidator(check_base_url)] = setting(
        ..., "its base URL, without user, query and fragment", example="https://pacs.hospital.example/dicom-web"
    )
    token_file: ExistingFile | None = setting(None, "file that holds a bearer token and nothing else")
    token_env: str = setting("", "or the name of an environment variable that holds the token")
    user: str = setting("", "user to log in as (HTTP Basic); empty: no login")
    password_file: ExistingFile | None = setting(None, "file that holds the user's password and nothing else")
    password_env: str = setting("", "or the name of an environment variable that holds the password")
    tls_ca: ExistingFile | None = setting(None, "CA certificates (PEM) for it; unset: the system's")
    tls_cert: ExistingFile | None = setting(None, "certificate (PEM) of the node that it is shown")
    tls_key: ExistingFile | None = setting(None, "private key (PEM) of the certificate")

    @model_validator(mode="after")
    def _one_login(self) -> WebServer:
        tokens = [key for key in ("token_file", "token_env") if getattr(self, key)]
        passwords = [key for key in ("password_file", "password_env") if getattr(self, key)]
        if len(tokens) == 2 or len(passwords) == 2:
            raise ValueError(f"give {' or '.join(tokens if len(tokens) == 2 else passwords)}, not both")
        if bool(self.user) != bool(passwords):
            raise ValueError("user and its password (password_file or password_env) belong together: give both or none")
        if tokens and self.user:
            raise ValueError("give a token or a user, not both")
        if ":" in self.user or not self.user.isprintable():
            raise ValueError("a user has no colon and no control characters")
        if (tokens or self.user) and not self.is_private:
            raise ValueError("a token or password is not sent unencrypted: use https, or leave it out")
        return self

    @model_validator(mode="after")
    def _complete_tls(self) -> WebServer:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or none")
        if not self.url.startswith("https:") and (self.tls_ca or self.tls_cert):
            raise ValueError("tls_ca and tls_cert need an https URL")
        return self

    @property
    def host(self) -> str:
        """Its host name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def title(self) -> str:
        """What the audit log calls it."""
        return self.url

    @property
    def is_private(self) -> bool:
        """Whether nobody on the way reads what is sent: TLS, or this machine."""
        if self.url.startswith("https:") or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class WebDestination(WebServer):
    """A destination that is called by HTTP."""

    read_back: bool = setting(False, "look at it for what was sent, to prove that it keeps that")

    @property
    def ways_of_proof(self) -> tuple[str, ...]:
        """How it is asked to prove that it keeps what it got, in words."""
        return ("read back",) if self.read_back else ()


class DicomWebDestination(WebDestination):
    """Who gets the results by STOW-RS (DICOMweb)."""

    kind: Literal["dicomweb"] = setting(..., 'STOW-RS: always "dicomweb"', example="dicomweb")
    read_back: bool = setting(False, "check by QIDO-RS that it keeps what was sent")
    results: tuple[KindOfResult, ...] = setting(
        SENT_ROLES, "kinds of results that it gets, of those that `[results]` makes", min_length=1
    )

    def takes(self, role: str) -> bool:
        """Whether files of this role (`database.words.SENT_ROLES`) go there."""
        return role in self.results


class FhirDestination(WebDestination):
    """Who gets the reports as FHIR R4: a DiagnosticReport with an Observation for each structure."""

    name: Name = setting(..., "short unique name", example="records")
    url: Annotated[str, AfterValidator(check_base_url)] = setting(
        ..., "its base URL, without user, query and fragment", example="https://fhir.hospital.example/r4"
    )
    kind: Literal["fhir"] = setting(..., 'FHIR R4: always "fhir"', example="fhir")
    patient_system: System = setting(
        ..., "URI of the identifier system of Patient IDs there", example="urn:oid:2.999.1"
    )
    accession_system: System = setting(
        ..., "URI of the identifier system of Accession Numbers there", example="urn:oid:2.999.2"
    )
    read_back: bool = setting(False, "check by a search for its identifier that it keeps a report that was sent")

    def takes(self, role: str) -> bool:
        """Reports alone: what is sent is made of them."""
        return role == "report"


class DicomWebArchive(WebServer):
    """An archive that is asked by QIDO-RS and that gives its images by WADO-RS (DICOMweb)."""

    name: NameOfSender = setting(
        ..., "short unique name, up to 16 characters: it is the sender of its images in index and log", example="vna"
    )
    kind: Literal["dicomweb"] = setting(..., 'QIDO-RS and WADO-RS: always "dicomweb"', example="dicomweb")
    fetch_missing: bool = setting(
        False, "when the quiet time of a study is over and its sender names this archive, fetch what is missing"
    )
