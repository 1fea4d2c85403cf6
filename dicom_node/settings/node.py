"""Every setting of the node: one table with type, default, unit and one line of documentation for each.

The file is TOML (``node.toml``); an environment variable ``SPINEONE_<SECTION>__<KEY>`` overrides a key of it.
Relative paths count from the file's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from dicom_node.settings.dicomweb import DicomwebRules, Token
from dicom_node.settings.sections import (
    AlertsRules,
    Archive,
    AuditRules,
    DeliveryRules,
    Destination,
    Email,
    ListenerRules,
    ModelRules,
    Partner,
    Peer,
    Receiver,
    ResultsRules,
    RetentionRules,
    Webhook,
    WebRules,
    WorkerRules,
)
from dicom_node.settings.study_rules import ShownRules, StudyRule, StudyRules, contradiction
from dicom_node.settings.types import absolute, check_database_url, setting
from dicom_node.settings.web_destinations import DicomWebArchive, DicomWebDestination, FhirDestination, WebServer


def _kind_of(value: Any) -> str:
    """The kind of a destination or archive; the tables of earlier releases name none."""
    kind = value.get("kind", "dicom") if isinstance(value, dict) else getattr(value, "kind", "dicom")
    return kind if isinstance(kind, str) else ""


AnyDestination = Destination | DicomWebDestination | FhirDestination
_Destination = Annotated[
    Annotated[Destination, Tag("dicom")]
    | Annotated[DicomWebDestination, Tag("dicomweb")]
    | Annotated[FhirDestination, Tag("fhir")],
    Discriminator(_kind_of),
]
AnyArchive = Archive | DicomWebArchive
_Archive = Annotated[
    Annotated[Archive, Tag("dicom")] | Annotated[DicomWebArchive, Tag("dicomweb")], Discriminator(_kind_of)
]


class NodeSettings(BaseSettings):
    """The whole settings file."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        env_prefix="SPINEONE_",
        env_nested_delimiter="__",
        validate_default=True,
    )

    data_dir: Annotated[Path, AfterValidator(absolute)] = setting(Path("data"), "folder of images, results, database")
    database_url: Annotated[str, AfterValidator(check_database_url)] = setting(
        "", "database; empty: SQLite in the data folder; PostgreSQL: postgresql+psycopg://user:password@host/name"
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "lowest level that is logged")
    listener: ListenerRules = Field(default_factory=ListenerRules)
    peers: tuple[Peer, ...] = ()
    dicomweb: DicomwebRules = Field(default_factory=DicomwebRules)
    tokens: tuple[Token, ...] = ()
    study: StudyRules = Field(default_factory=StudyRules)
    rules: tuple[StudyRule, ...] = ()
    model: ModelRules = Field(default_factory=ModelRules)
    results: ResultsRules = Field(default_factory=ResultsRules)
    destinations: tuple[_Destination, ...] = ()
    archives: tuple[_Archive, ...] = ()
    delivery: DeliveryRules = Field(default_factory=DeliveryRules)
    worker: WorkerRules = Field(default_factory=WorkerRules)
    web: WebRules = Field(default_factory=WebRules)
    retention: RetentionRules = Field(default_factory=RetentionRules)
    alerts: AlertsRules = Field(default_factory=AlertsRules)
    emails: tuple[Email, ...] = ()
    webhooks: tuple[Webhook, ...] = ()
    audit: AuditRules = Field(default_factory=AuditRules)
    shown: ShownRules = Field(default_factory=ShownRules)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment overrides the file."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _names_are_unique(self) -> NodeSettings:
        named: dict[str, tuple[Partner | WebServer | Receiver, ...]] = {
            "destinations": self.destinations,
            "archives": self.archives,
            "emails and webhooks": self.receivers,
        }
        for key, partners in named.items():
            names = [partner.name for partner in partners]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{key}: the name {twice[0]!r} is used twice")
        return self

    @model_validator(mode="after")
    def _fhir_has_reports(self) -> NodeSettings:
        without = [d.name for d in self.destinations if d.kind == "fhir" and not self.results.structured_report]
        if without:
            raise ValueError(f"destinations: {without[0]} (FHIR) gets nothing without [results] structured_report")
        return self

    @model_validator(mode="after")
    def _rules_do_not_contradict(self) -> NodeSettings:
        if why := contradiction(self.rules):
            raise ValueError(f"rules: {why}")
        return self

    @model_validator(mode="after")
    def _peers_name_archives(self) -> NodeSettings:
        names = [archive.name for archive in self.archives]
        for peer in self.peers:
            if peer.archive and peer.archive not in names:
                known = ", ".join(names) or "none"
                raise ValueError(f"peers: {peer.ae_title} names the archive {peer.archive!r}; [[archives]] has {known}")
        return self

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> NodeSettings:
        bound = [peer.ae_title for peer in self.peers if peer.certificates]
        if bound and self.listener.tls_ca is None:
            raise ValueError(f"peers: certificates of {bound[0]} need [listener] tls_ca, or no peer is asked for one")
        return self

    @model_validator(mode="after")
    def _tokens_are_of_peers(self) -> NodeSettings:
        titles = {peer.ae_title for peer in self.peers}
        places = [(token.sha256, token.file, token.env) for token in self.tokens]
        for token, place in zip(self.tokens, places, strict=True):
            if token.peer not in titles:
                raise ValueError(f"tokens: {token.peer} is no ae_title in [[peers]]")
            if any(place) and places.count(place) > 1:
                raise ValueError(f"tokens: a token of {token.peer} is there twice")
        if self.dicomweb.enabled and not self.tokens:
            raise ValueError("dicomweb: nobody could store: [[tokens]] is empty; add one or set enabled = false")
        return self

    @model_validator(mode="after")
    def _ports_are_apart(self) -> NodeSettings:
        places = [("listener", self.listener.host, self.listener.port)]
        places += [("dicomweb", self.dicomweb.host, self.dicomweb.port)] if self.dicomweb.enabled else []
        places += [("web", self.web.host, self.web.port)] if self.web.enabled else []
        for at, (name, host, port) in enumerate(places):
            for other, other_host, other_port in places[at + 1 :]:
                is_shared = host == other_host or {host, other_host} & {"0.0.0.0", "::"}
                if port == other_port and is_shared and "dicomweb" in (name, other):
                    raise ValueError(f"{other}: port {port} is that of [{name}] already")
        return self

    @property
    def database(self) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'node.db'}"

    @property
    def receivers(self) -> tuple[Email | Webhook, ...]:
        """Everyone who is told of alerts."""
        return (*self.emails, *self.webhooks)

    @property
    def application_entities(self) -> tuple[Destination, ...]:
        """The destinations that are called by DICOM associations, and may call us."""
        return tuple(d for d in self.destinations if isinstance(d, Destination))

    @property
    def archive_entities(self) -> tuple[Archive, ...]:
        """The archives that are called by DICOM associations, and may call us."""
        return tuple(a for a in self.archives if isinstance(a, Archive))

    def destination(self, name: str) -> AnyDestination | None:
        """The destination of that name, or None if the settings no longer have it."""
        return next((d for d in self.destinations if d.name == name), None)

    def answers_to(self, ae_title: str) -> Partner | None:
        """Where the answer to this AE's commitment request goes; None if it goes on the association of the request."""
        known = next((p for p in (*self.application_entities, *self.archive_entities) if p.ae_title == ae_title), None)
        peer = next((p for p in self.peers if p.ae_title == ae_title and p.host and p.port), None)
        if peer is None or peer.port is None:
            return known
        return Partner(name="peer", ae_title=peer.ae_title, host=peer.host, port=peer.port)
