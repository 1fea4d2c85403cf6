"""Every setting of the node: one table with type, default, unit and one line of documentation for each.

The file is TOML (``node.toml``); an environment variable ``SPINEONE_<SECTION>__<KEY>`` overrides a key of it.
Relative paths count from the file's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

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
    study: StudyRules = Field(default_factory=StudyRules)
    rules: tuple[StudyRule, ...] = ()
    model: ModelRules = Field(default_factory=ModelRules)
    results: ResultsRules = Field(default_factory=ResultsRules)
    destinations: tuple[Destination, ...] = ()
    archives: tuple[Archive, ...] = ()
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
        named: dict[str, tuple[Partner | Receiver, ...]] = {
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

    @property
    def database(self) -> str:
        """The database's URL, with the default filled in."""
        return self.database_url or f"sqlite:///{self.data_dir / 'node.db'}"

    @property
    def receivers(self) -> tuple[Email | Webhook, ...]:
        """Everyone who is told of alerts."""
        return (*self.emails, *self.webhooks)

    def destination(self, name: str) -> Destination | None:
        """The destination of that name, or None if the settings no longer have it."""
        return next((d for d in self.destinations if d.name == name), None)

    def answers_to(self, ae_title: str) -> Partner | None:
        """Where the answer to this AE's commitment request goes; None if it goes on the association of the request."""
        known = next((p for p in (*self.destinations, *self.archives) if p.ae_title == ae_title), None)
        peer = next((p for p in self.peers if p.ae_title == ae_title and p.host and p.port), None)
        if peer is None or peer.port is None:
            return known
        return Partner(name="peer", ae_title=peer.ae_title, host=peer.host, port=peer.port)
