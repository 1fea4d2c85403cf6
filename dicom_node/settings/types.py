"""Types of settings: what a value must look like, and how a table of the file is written down."""

from __future__ import annotations

import ipaddress
import os
import re
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from dicom_node.database.words import SENT_ROLES, AlertKind
from spineone_core.findings import Reason

_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_PLAIN = re.compile(r"[\x20-\x5b\x5d-\x7e]*")
_MAILBOX = re.compile(r"[!-?A-~]+@[0-9A-Za-z.\[\]:-]+")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_HOST_NAME = re.compile(r"[0-9a-z_]([0-9a-z_-]*[0-9a-z_])?(\.[0-9a-z_]([0-9a-z_-]*[0-9a-z_])?)*")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s|,$\\\"<>\x00-\x20\x7f-\U0010ffff]+")
# Splits a URL the way SQLAlchemy's `make_url` does; settings are read without loading SQLAlchemy.
_DATABASE_URL = re.compile(
    r"(?P<name>[\w+]+)://"
    r"(?:[^:/]*(?::[^@]*)?@)?"  # user and password
    r"(?:\[[^/?]+\]|[^/:?]+)?"  # host
    r"(?::(?P<port>[^/?]*))?"
)
# The folder that relative paths count from, while a file is being read.
base_folder: ContextVar[Path] = ContextVar("base_folder", default=Path())


def _check_ae_title(value: str) -> str:
    if not _AE_TITLE.fullmatch(value) or value != value.strip():
        raise ValueError(
            f"an AE title has 1 to 16 printable ASCII characters without backslash or outer spaces (this has {len(value)})"
        )
    return value


def _check_network(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError('must be an IP address or network such as "10.0.0.0/8"') from None
    return value


def _check_fingerprint(value: str) -> str:
    plain = value.replace(":", "").lower()
    if not _FINGERPRINT.fullmatch(plain):
        raise ValueError(
            "must be the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons "
            "(openssl x509 -noout -fingerprint -sha256 -in FILE)"
        )
    return plain


def _check_host_name(value: str) -> str:
    plain = value.lower().rstrip(".")
    if not _HOST_NAME.fullmatch(plain) or len(plain) > 253:
        raise ValueError('must be a host name without port, such as "node.hospital.example"')
    return plain


def absolute(value: Path) -> Path:
    """The path as an absolute one: relative paths count from `base_folder`, and ``~`` is the user's home."""
    return (base_folder.get() / value.expanduser()).resolve()


def _existing_file(value: Path) -> Path:
    path = absolute(value)
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"file cannot be read: {path}")
    return path


def model_path(value: str) -> str:
    """``"default"``, or the absolute path of a model package's folder; ValueError if there is no such folder."""
    if value == "default":
        return value
    path = absolute(Path(value))
    if not path.is_dir():
        raise ValueError(f'no such model package folder: {path} ("default" is the model that comes with the node)')
    return str(path)


def check_device(value: str) -> str:
    """The device, unchanged; ValueError if the detector does not know a device of this form."""
    if not _DEVICE.fullmatch(value):
        raise ValueError('must be "auto", "cpu", "cuda" or "cuda:N"')
    return value


def check_scales(value: tuple[float, ...]) -> tuple[float, ...]:
    """The sizes, unchanged; ValueError if the detector cannot analyse the picture at these."""
    if 1.0 not in value or not all(0.5 <= scale <= 2 for scale in value):
        raise ValueError("must be sizes from 0.5 to 2, 1 among them")
    return value


def check_database_url(value: str) -> str:
    """The URL, unchanged; it may be empty. ValueError if SQLAlchemy cannot read it or the database is not supported."""
    if not value:
        return value
    match = _DATABASE_URL.match(value)
    if match is None or not _is_number(match.groupdict("0")["port"]):
        raise ValueError('must be a database URL such as "sqlite:////var/lib/spineone/node.db"')
    backend = match["name"].split("+")[0]
    if backend not in ("sqlite", "postgresql"):
        raise ValueError(f"{backend} is not supported; use sqlite or postgresql")
    return value


def _is_number(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _check_kind(value: str) -> str:
    if value not in list(AlertKind):
        raise ValueError(f"there is no such kind of alert; there are {', '.join(AlertKind)}")
    return value


def _check_mailbox(value: str) -> str:
    if not _MAILBOX.fullmatch(value):
        raise ValueError('must be an e-mail address such as "pacs@hospital.example"')
    return value


def check_url(value: str) -> str:
    """The URL, unchanged; ValueError if it is not an HTTP URL or if it holds a user name."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or not value.isascii() or " " in value:
        raise ValueError('must be a URL such as "https://alerts.hospital.example/hook"')
    if parts.username is not None:
        raise ValueError("must hold no user and no password")
    return value


def check_base_url(value: str) -> str:
    """The URL without a slash at its end; ValueError if it is not an HTTP URL to which a path can be appended."""
    try:
        parts = urlsplit(check_url(value))
        port_is_good = parts.port != 0
    except ValueError as error:
        raise ValueError(
            str(error).replace("alerts.hospital.example/hook", "pacs.hospital.example/dicom-web")
        ) from None
    if parts.query or parts.fragment or "?" in value or "#" in value or not port_is_good or not value.isprintable():
        raise ValueError("must hold no query, no fragment and no control characters")
    return value.rstrip("/")


def check_system(value: str) -> str:
    """The URI of an identifier system, unchanged; ValueError if it is not an absolute URI."""
    if not _URI.fullmatch(value):
        raise ValueError('must be an absolute URI such as "urn:oid:1.2.3" or "https://hospital.example/ids/patient"')
    return value


def _check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"must be a regular expression: {error}") from None
    return value


def _check_sent_role(value: str) -> str:
    if value not in SENT_ROLES:
        raise ValueError(f"there is no such kind of result; there are {', '.join(SENT_ROLES)}")
    return value


def _check_reason(value: str) -> str:
    if value not in list(Reason):
        raise ValueError(f"there is no such reason; there are {', '.join(Reason)}")
    return value


def _check_code(value: str) -> str:
    parts = code_parts(value)
    if value and not (len(parts) == 3 and all(parts)):
        raise ValueError('must be "value, scheme, meaning", for example "77547008, SCT, Degeneration of disc"')
    for part, limit in zip(parts, (16, 16, 64), strict=False):
        if len(part) > limit or not _PLAIN.fullmatch(part):
            raise ValueError("a code has printable ASCII without backslash: value and scheme at most 16, meaning 64")
    return value


def code_parts(value: str) -> list[str]:
    """Value, scheme and meaning of a code in the settings; empty where there is none."""
    return [part.strip() for part in value.split(",", 2)] if value else []


Code = Annotated[str, AfterValidator(_check_code)]
KindOfAlert = Annotated[str, AfterValidator(_check_kind)]
KindOfResult = Annotated[str, AfterValidator(_check_sent_role)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
ReasonCode = Annotated[str, AfterValidator(_check_reason)]
Mailbox = Annotated[str, AfterValidator(_check_mailbox)]
AETitle = Annotated[str, AfterValidator(_check_ae_title)]
Fingerprint = Annotated[str, AfterValidator(_check_fingerprint)]
HostName = Annotated[str, AfterValidator(_check_host_name)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[0-9A-Za-z._-]+$")]
# Stands where an AE title does (PS3.5 6.2: 16 characters).
NameOfSender = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[0-9A-Za-z._-]+$")]
Network = Annotated[str, AfterValidator(_check_network)]
Port = Annotated[int, Field(ge=1, le=65535)]
ExistingFile = Annotated[Path, AfterValidator(_existing_file)]


def setting(default: Any, doc: str, *, unit: str = "", example: Any = None, **rules: Any) -> Any:
    """A field with its documentation line, unit and rules, and an example if it has no default."""
    return Field(default, description=doc, json_schema_extra={"unit": unit, "example": example}, **rules)


class Section(BaseModel):
    """A table of the file. Unknown keys are errors, so that a misspelt key is never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any, info: ValidationInfo) -> Any:
        """Take "" for no value where a key may have none, so that every commented default is valid as it stands."""
        field = cls.model_fields[info.field_name or ""]
        return None if value == "" and not field.is_required() and field.default is None else value

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false where no truth value is meant: Python would take them for 1 and 0."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind is not bool and bool not in get_args(kind):
            raise ValueError("must not be true or false")
        return value
