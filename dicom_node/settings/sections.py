"""The tables of the settings file: types, defaults, units and one line of documentation for each key."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from dicom_node.settings.types import (
    AETitle,
    Code,
    ExistingFile,
    KindOfAlert,
    Mailbox,
    Name,
    Network,
    Port,
    Section,
    check_device,
    check_url,
    model_path,
    setting,
)


class ListenerRules(Section):
    """Receiving: the DICOM storage SCP."""

    ae_title: AETitle = setting("SPINEONE", "AE title of the node, for receiving and for sending")
    host: str = setting("127.0.0.1", 'address to listen on; "0.0.0.0" for all', min_length=1)
    port: Port = setting(11112, "TCP port to listen on")
    max_associations: int = setting(25, "associations served at the same time", ge=1, le=500)
    max_pdu: int = setting(131072, "largest PDU to receive", unit="bytes", ge=4096, le=16777216)
    max_object_mb: int = setting(1000, "largest object to receive; larger ones are refused", unit="MB", ge=1, le=100000)
    max_memory_mb: int = setting(
        2000, "objects that are being received may hold so much memory together", unit="MB", ge=1, le=1000000
    )
    require_called_ae: bool = setting(True, "refuse associations that call another AE title than ours")
    idle_timeout_s: float = setting(60.0, "silence after which an association is aborted", unit="s", gt=0, le=3600)
    pdu_timeout_s: float = setting(30.0, "time a peer has for one whole PDU", unit="s", gt=0, le=3600)
    tls_cert: ExistingFile | None = setting(None, "certificate (PEM) of the node; turns TLS on")
    tls_key: ExistingFile | None = setting(None, "private key (PEM) of the certificate")
    tls_ca: ExistingFile | None = setting(None, "CA certificates (PEM) that peers' certificates must come from")

    @model_validator(mode="after")
    def _complete_tls(self) -> ListenerRules:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or none")
        if self.tls_ca is not None and self.tls_cert is None:
            raise ValueError("tls_ca needs tls_cert and tls_key")
        return self


class Peer(Section):
    """Who may send to the node."""

    ae_title: AETitle = setting(..., "AE title the peer calls itself", example="ROUTER")
    addresses: tuple[Network, ...] = setting((), "addresses or networks it may come from; empty: any")
    host: str = setting("", "where answers to its commitment requests go; empty: on the association of the request")
    port: Port | None = setting(None, "TCP port for those answers")
    archive: str = setting(
        "",
        "name in [[archives]]: asked how many MR images a study has that this peer sends; when they are here, it is complete",
    )
    max_associations: int = setting(
        0, "associations it may have at the same time; 0: as many as `[listener] max_associations` leaves", ge=0, le=500
    )

    @model_validator(mode="after")
    def _complete_address(self) -> Peer:
        if bool(self.host) != (self.port is not None):
            raise ValueError("host and port belong together: give both or none")
        return self


class StudyRules(Section):
    """When a study is complete, and what is analysed."""

    quiet_seconds: float = setting(30.0, "a study is complete when no image came for so long", unit="s", ge=0, le=86400)
    max_wait_seconds: float = setting(
        900.0, "or when its first image is so old, whatever still comes", unit="s", ge=0, le=604800
    )
    quiet_seconds_after_release: float | None = setting(
        None,
        "quiet time once the sender has released its association, more than its pauses between associations; "
        "without: quiet_seconds",
        unit="s",
        ge=0,
        le=86400,
    )
    max_images: int = setting(
        20000, "images of a study that are kept, every version of an image counts; further ones are refused", ge=1
    )
    max_gb: float = setting(50.0, "size of a study; further images of it are refused", unit="GB", gt=0)
    min_slices: int = setting(5, "slices a sagittal T2 series needs to be analysed", unit="slices", ge=1, le=1000)


class ModelRules(Section):
    """The detector."""

    path: Annotated[str, AfterValidator(model_path)] = setting(
        "default", 'folder of a model package, or "default" for the one that comes with the node'
    )
    device: Annotated[str, AfterValidator(check_device)] = setting("auto", '"auto", "cuda", "cuda:N" or "cpu"')
    threads: int = setting(0, "CPU threads of each worker; 0: one for each core", unit="threads", ge=0, le=256)


class ResultsRules(Section):
    """What is made of a detection."""

    structured_report: bool = setting(True, "make a Structured Report (TID 1500)")
    scoord3d: bool = setting(
        False, "points of the report in patient coordinates (SCOORD3D) where it is sent as Comprehensive 3D SR"
    )
    secondary_capture: bool = setting(True, "make a secondary-capture overlay of the analysed slice")
    table_page: bool = setting(True, "add the levels as a table, the second picture of the overlay's series")
    slice_sheet: bool = setting(False, "add all slices of the series side by side, another picture of it")
    presentation_state: bool = setting(False, "make a presentation state (GSPS): points and labels as layers")
    key_object: bool = setting(False, "make a key object note (KOS) that points at the analysed slice")
    degenerative_disc: Code = setting(
        "", 'code of a degenerative disc as "value, scheme, meaning"; empty: Abnormal, of Normality (121402, DCM)'
    )
    degenerative_vertebra: Code = setting("", "code of a degenerative vertebra, in the same way")


class Partner(Section):
    """Another application entity that the node calls."""

    name: Name = setting(..., "short unique name", example="pacs")
    ae_title: AETitle = setting(..., "AE title of it", example="PACS")
    host: str = setting(..., "host name or address", example="192.0.2.10", min_length=1)
    port: Port = setting(..., "TCP port", example=104)
    tls: bool = setting(False, "use TLS")
    tls_ca: ExistingFile | None = setting(None, "CA certificates (PEM) for it; without: the system's")


class Destination(Partner):
    """Who gets the results."""

    storage_commitment: bool = setting(
        False, "ask it for storage commitment of what was sent; its answer may come to the listener"
    )
    read_back: bool = setting(
        False,
        "look by C-FIND whether it keeps what was sent, where it is not asked for commitment or does not offer it",
    )


class Archive(Partner):
    """Where `dicom-node pull` finds studies, and who knows when a study is complete. It may send to the listener."""

    retrieve: Literal["move", "get"] = setting(
        "move", 'how images are fetched: "move" (it opens an association to the listener) or "get" (on our own)'
    )
    fetch_missing: bool = setting(
        False, "fetch by itself what is missing of a study after its quiet time, where a peer names this archive"
    )


class DeliveryRules(Section):
    """Sending results."""

    timeout_s: float = setting(30.0, "time for a connection, an answer or a block of data", unit="s", gt=0, le=3600)
    retry_first_s: float = setting(10.0, "pause after the first failure; doubles each time", unit="s", gt=0, le=86400)
    retry_max_s: float = setting(1800.0, "longest pause between two attempts", unit="s", gt=0, le=604800)
    poll_seconds: float = setting(2.0, "how often the outbox is looked at", unit="s", gt=0, le=3600)
    commitment_timeout_s: float = setting(
        3600.0, "time for the answer to a commitment request; then it is asked again", unit="s", gt=0, le=604800
    )


class WorkerRules(Section):
    """Analysing."""

    processes: int = setting(1, "worker processes that `serve` starts", ge=1, le=64)
    poll_seconds: float = setting(1.0, "how often an idle worker looks for a job", unit="s", gt=0, le=3600)
    heartbeat_s: float = setting(10.0, "how often a worker says that it lives", unit="s", gt=0, le=3600)
    lease_s: float = setting(120.0, "silence after which a worker's job is given to another", unit="s", gt=0, le=86400)
    max_attempts: int = setting(5, "attempts at a job before it is put aside with an alert", ge=1, le=100)
    retry_first_s: float = setting(10.0, "pause after the first failure; doubles each time", unit="s", gt=0, le=86400)
    retry_max_s: float = setting(600.0, "longest pause between two attempts", unit="s", gt=0, le=604800)

    @model_validator(mode="after")
    def _lease_outlives_heartbeat(self) -> WorkerRules:
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(f"lease_s ({self.lease_s:g}) must be at least twice heartbeat_s ({self.heartbeat_s:g})")
        return self


class WebRules(Section):
    """Health, metrics and the status page, over HTTP without a login: keep it on loopback or behind a proxy."""

    enabled: bool = setting(True, "whether `serve` starts the web process")
    host: str = setting("127.0.0.1", "address to listen on", min_length=1)
    port: Port = setting(8080, "TCP port to listen on")


class RetentionRules(Section):
    """Keeping and deleting received images. Results are kept."""

    keep_days: int = setting(
        0,
        "days after its last image at which a study's images are deleted, if the evidence allows; 0: never",
        unit="days",
        ge=0,
    )
    evidence: Literal["proven", "sent", "analysed"] = setting(
        "proven",
        'what images are deleted on: "proven" (every destination proved that it keeps the results), "sent" (acknowledged), '
        '"analysed" (a result was made; what has destinations must have reached them)',
    )
    purge_below_gb: float = setting(
        0.0, "free space below which the oldest such studies are deleted before their time; 0: never", unit="GB", ge=0
    )
    disk_reserve_gb: float = setting(1.0, "free space below which nothing more is accepted", unit="GB", ge=0)

    @model_validator(mode="after")
    def _purges_before_it_refuses(self) -> RetentionRules:
        if 0 < self.purge_below_gb < self.disk_reserve_gb:
            raise ValueError(
                f"purge_below_gb ({self.purge_below_gb:g}) must not be less than disk_reserve_gb ({self.disk_reserve_gb:g})"
            )
        return self


class AlertsRules(Section):
    """How often the receivers of alerts ([[emails]] and [[webhooks]]) are told."""

    collect_seconds: float = setting(
        60.0,
        "an alert is told after so long, in one message with all that came in the meantime",
        unit="s",
        ge=0,
        le=86400,
    )
    interval_seconds: float = setting(300.0, "least time between two messages to a receiver", unit="s", ge=0, le=86400)
    remind_hours: float = setting(
        24.0, "an alert that is still open is told again after so long; 0: never", unit="h", ge=0, le=8784
    )


class Receiver(Section):
    """Someone who is told of alerts."""

    name: Name = setting(..., "short unique name", example="pacs-team")
    kinds: tuple[KindOfAlert, ...] = setting((), "kinds of alerts to tell; empty: all")
    tls_ca: ExistingFile | None = setting(None, "CA certificates (PEM) for its server; without: the system's")


class Email(Receiver):
    """Who is told of alerts by e-mail."""

    to: tuple[Mailbox, ...] = setting(..., "addresses to write to", example=("pacs@hospital.example",))
    sender: Mailbox = setting(..., "address it comes from", example="spineone@hospital.example")
    host: str = setting(..., "mail server (SMTP): host name or address", example="mail.hospital.example", min_length=1)
    port: Port = setting(587, 'its TCP port: mostly 587 for "starttls", 465 for "tls", 25 for "none"')
    security: Literal["starttls", "tls", "none"] = setting(
        "starttls", 'how the connection is encrypted; "none" only inside a trusted network'
    )
    user: str = setting("", "user to log in as; empty: no login")
    password_file: ExistingFile | None = setting(None, "file that holds the user's password alone")
    password_env: str = setting("", "or the name of an environment variable that holds it")

    @model_validator(mode="after")
    def _complete_login(self) -> Email:
        if not self.to:
            raise ValueError("to must not be empty")
        if bool(self.user) != (bool(self.password_file) or bool(self.password_env)):
            raise ValueError("user and its password (password_file or password_env) belong together: give both or none")
        if self.password_file and self.password_env:
            raise ValueError("give password_file or password_env, not both")
        if self.user and self.security == "none":
            raise ValueError(
                'a password is not sent unencrypted: set security to "starttls" or "tls", or leave user out'
            )
        return self


class Webhook(Receiver):
    """Who is told of alerts by an HTTP POST of JSON."""

    name: Name = setting(..., "short unique name", example="pager")
    url: Annotated[str, AfterValidator(check_url)] = setting(
        ..., "where to post", example="https://alerts.hospital.example/hook"
    )
    secret_file: ExistingFile | None = setting(
        None, "file that holds a key alone: the header X-SpineOne-Signature is the body's HMAC-SHA256 with it"
    )
    secret_env: str = setting("", "or the name of an environment variable that holds it")

    @model_validator(mode="after")
    def _one_secret(self) -> Webhook:
        if self.secret_file and self.secret_env:
            raise ValueError("give secret_file or secret_env, not both")
        return self


class AuditRules(Section):
    """The audit log (DICOM PS3.15 A.5): who sent, read, changed, exported or deleted what, in `audit/` of the data folder."""

    enabled: bool = setting(True, "whether an audit log is written")
    patient: bool = setting(
        False, "name the patient (ID and name) in it, as the standard asks for; without: Study Instance UIDs alone"
    )
    site: Annotated[str, Field(max_length=64)] = setting("", "hospital or department (AuditEnterpriseSiteID)")
    file_mb: float = setting(20.0, "size at which a new file is begun", unit="MB", gt=0, le=10000)
    keep_files: int = setting(
        100, "files that are kept; those that the repository has not got yet are kept too; 0: all", ge=0, le=100000
    )
    repository_host: str = setting("", "audit repository that gets every message by syslog too; empty: none")
    repository_port: Port = setting(6514, "its port")
    repository_transport: Literal["tls", "tcp", "udp"] = setting(
        "tls", 'syslog over TLS (RFC 5425), "tcp" (the same without TLS) or "udp" (RFC 5426; it may lose messages)'
    )
    repository_ca: ExistingFile | None = setting(None, "CA certificates (PEM) for it; without: the system's")
    repository_timeout_s: float = setting(10.0, "time for it to connect or to take data", unit="s", gt=0, le=600)
