"""The tables of the settings file: types, defaults, units and one line of documentation for each key."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from dicom_node.database.words import SENT_ROLES
from dicom_node.settings.types import (
    AETitle,
    Code,
    ExistingFile,
    Fingerprint,
    HostName,
    KindOfAlert,
    KindOfResult,
    Mailbox,
    Name,
    Network,
    Port,
    ReasonCode,
    Section,
    check_device,
    check_scales,
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
        2000, "memory that all objects being received may hold together", unit="MB", ge=1, le=1000000
    )
    require_called_ae: bool = setting(True, "refuse associations that call an AE title other than the node's")
    idle_timeout_s: float = setting(60.0, "silence after which an association is aborted", unit="s", gt=0, le=3600)
    pdu_timeout_s: float = setting(30.0, "time that a peer has to send one whole PDU", unit="s", gt=0, le=3600)
    tls_cert: ExistingFile | None = setting(None, "certificate (PEM) of the node; turns TLS on")
    tls_key: ExistingFile | None = setting(None, "private key (PEM) of the certificate")
    tls_ca: ExistingFile | None = setting(
        None, "CA certificates (PEM); if given, each peer must show a certificate from one of them"
    )

    @model_validator(mode="after")
    def _complete_tls(self) -> ListenerRules:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or none")
        if self.tls_ca is not None and self.tls_cert is None:
            raise ValueError("tls_ca needs tls_cert and tls_key")
        return self


class Peer(Section):
    """Who may send to the node."""

    ae_title: AETitle = setting(..., "AE title that the peer uses for itself (calling AE title)", example="ROUTER")
    addresses: tuple[Network, ...] = setting((), "addresses or networks that it may connect from; empty: any")
    certificates: tuple[Fingerprint, ...] = setting(
        (),
        "SHA-256 fingerprints of its client certificates: whoever uses its AE title must show one of them; empty: any that "
        "`[listener] tls_ca` accepts",
    )
    host: str = setting(
        "", "host that gets the answers to its commitment requests; empty: they go on the association of the request"
    )
    port: Port | None = setting(None, "TCP port for those answers")
    archive: str = setting(
        "",
        "name of the archive in [[archives]] that says how many MR images this peer's studies have; with all of these a study "
        "is complete",
    )
    max_associations: int = setting(
        0,
        "associations that it may have at the same time; 0: as many as `[listener] max_associations` leaves",
        ge=0,
        le=500,
    )

    @model_validator(mode="after")
    def _complete_address(self) -> Peer:
        if bool(self.host) != (self.port is not None):
            raise ValueError("host and port belong together: give both or none")
        return self


class ModelRules(Section):
    """The detector."""

    path: Annotated[str, AfterValidator(model_path)] = setting(
        "default", 'folder of a model package, or "default" for the one that comes with the node'
    )
    device: Annotated[str, AfterValidator(check_device)] = setting("auto", '"auto", "cuda", "cuda:N" or "cpu"')
    threads: int = setting(0, "CPU threads of each worker; 0: one for each core", unit="threads", ge=0, le=256)
    precision: Literal["fp32", "bf16"] = setting("fp32", "numbers that the network computes with; bf16 is for GPUs")
    flips: bool = setting(
        False,
        "analyse the mirrored picture as well and average; takes twice the time, and warns where the two disagree",
    )
    scales: Annotated[tuple[float, ...], AfterValidator(check_scales)] = setting(
        (1.0,), "analyse the picture at these sizes, 1 among them, and average; each takes its time"
    )


class ResultsRules(Section):
    """Which objects are made of a detection."""

    structured_report: bool = setting(True, "make a Structured Report (TID 1500)")
    scoord3d: bool = setting(
        False, "write the report's points in patient coordinates (SCOORD3D) where it is sent as Comprehensive 3D SR"
    )
    grades: bool = setting(
        True, "write Pfirrmann grades and probabilities of signs into the report, where the model says them"
    )
    secondary_capture: bool = setting(True, "make a secondary-capture overlay of the analysed slice")
    table_page: bool = setting(True, "add a table of the levels to the overlay's series as its second picture")
    slice_sheet: bool = setting(
        False, "add a picture of all slices of the analysed series, side by side, to the overlay's series"
    )
    presentation_state: bool = setting(False, "make a presentation state (GSPS): points and labels as layers")
    key_object: bool = setting(False, "make a key object note (KOS) that points at the analysed slice")
    disc_degenerative_from_grade: Literal[0, 2, 3, 4, 5] = setting(
        0,
        "a disc is degenerative from this Pfirrmann grade on (2 to 5), where the model grades discs; 0: as the model's "
        "data define it",
    )
    not_analysable: Literal["send", "keep"] = setting(
        "send",
        'whether the report of a study that is not analysable is sent, or only kept on the node: "send" or "keep"',
    )
    not_analysable_except: tuple[ReasonCode, ...] = setting(
        (), 'reasons (their codes, such as "not_lumbar") for which the other of the two holds'
    )
    degenerative_disc: Code = setting(
        "",
        'code of a degenerative disc as "value, scheme, meaning"; empty: the value Abnormal of Normality (121402, DCM)',
    )
    degenerative_vertebra: Code = setting("", "code of a degenerative vertebra, in the same form")

    def are_sent(self, reason: str | None) -> bool:
        """Whether results with this reason for not being analysable (None: analysed ones) go to destinations."""
        if reason is None:
            return True
        return (self.not_analysable == "send") != (reason in self.not_analysable_except)


class Partner(Section):
    """Another application entity that the node calls."""

    name: Name = setting(..., "short unique name", example="pacs")
    ae_title: AETitle = setting(..., "its AE title", example="PACS")
    host: str = setting(..., "its host name or address", example="192.0.2.10", min_length=1)
    port: Port = setting(..., "its TCP port", example=104)
    tls: bool = setting(False, "use TLS")
    tls_ca: ExistingFile | None = setting(None, "CA certificates (PEM) for it; unset: the system's")

    @property
    def title(self) -> str:
        """What the audit log calls it."""
        return self.ae_title


class Destination(Partner):
    """Who gets the results by C-STORE."""

    kind: Literal["dicom"] = setting("dicom", 'how results go there: "dicom" is C-STORE')
    storage_commitment: bool = setting(
        False, "ask it for storage commitment of what was sent; it may send its answer to the listener"
    )
    read_back: bool = setting(
        False,
        "check by C-FIND that it keeps what was sent, if it is not asked for commitment or does not offer it",
    )
    results: tuple[KindOfResult, ...] = setting(
        SENT_ROLES, "kinds of results that it gets, of those that `[results]` makes", min_length=1
    )

    def takes(self, role: str) -> bool:
        """Whether files of this role (`database.words.SENT_ROLES`) go there."""
        return role in self.results

    @property
    def ways_of_proof(self) -> tuple[str, ...]:
        """How it is asked to prove that it keeps what it got, in words, in the order in which that is tried."""
        ways = {"storage commitment": self.storage_commitment, "read back": self.read_back}
        return tuple(words for words, is_wanted in ways.items() if is_wanted)


class Archive(Partner):
    """An archive that `dicom-node pull` asks for studies and that knows when one is complete. It may send to the listener."""

    kind: Literal["dicom"] = setting("dicom", 'how it is asked: "dicom" is C-FIND, and C-MOVE or C-GET')
    retrieve: Literal["move", "get"] = setting(
        "move",
        'how images are fetched: "move" (the archive opens an association to the listener) or "get" (on the node\'s own)',
    )
    fetch_missing: bool = setting(
        False,
        "when the quiet time of a study is over and its sender names this archive, fetch what is missing",
    )


class DeliveryRules(Section):
    """Sending results."""

    timeout_s: float = setting(30.0, "time for a connection, an answer or a block of data", unit="s", gt=0, le=3600)
    retry_first_s: float = setting(10.0, "pause after the first failure; doubles each time", unit="s", gt=0, le=86400)
    retry_max_s: float = setting(1800.0, "longest pause between two attempts", unit="s", gt=0, le=604800)
    poll_seconds: float = setting(2.0, "how often delivery looks at the outbox", unit="s", gt=0, le=3600)
    commitment_timeout_s: float = setting(
        3600.0, "time for the answer to a commitment request; after it the node asks again", unit="s", gt=0, le=604800
    )


class WorkerRules(Section):
    """Analysing."""

    processes: int = setting(1, "worker processes that `serve` starts", ge=1, le=64)
    poll_seconds: float = setting(1.0, "how often an idle worker looks for a job", unit="s", gt=0, le=3600)
    heartbeat_s: float = setting(10.0, "how often a worker reports that it is alive", unit="s", gt=0, le=3600)
    lease_s: float = setting(
        120.0, "silence after which a worker's job goes to another worker", unit="s", gt=0, le=86400
    )
    job_limit_s: float = setting(
        1800.0,
        "time for reading a study; after it the study is refused with `time_limit`; a job that takes longer elsewhere is "
        "put aside",
        unit="s",
        gt=0,
        le=86400,
    )
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
    hosts: tuple[HostName, ...] = setting(
        (),
        "further names under which browsers may ask for the pages; addresses, loopback names and the machine's own name "
        "always work",
    )


class RetentionRules(Section):
    """Keeping and deleting received images. Results are kept."""

    keep_days: int = setting(
        0,
        "days from a study's last image until its images are deleted, if the evidence allows it; 0: never",
        unit="days",
        ge=0,
    )
    evidence: Literal["proven", "sent", "analysed"] = setting(
        "proven",
        'evidence that deletion needs: "proven" (every destination proved that it keeps the results), "sent" (acknowledged), '
        '"analysed" (a result was made; a result that has destinations must have reached them)',
    )
    purge_below_gb: float = setting(
        0.0,
        "free space below which the oldest studies with that evidence are deleted before their time; 0: never",
        unit="GB",
        ge=0,
    )
    quarantine_max_gb: float = setting(
        10.0,
        "size of the quarantine folder; when it is full, objects that would go there are refused with 0xA700",
        unit="GB",
        ge=0,
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
    """When the receivers of alerts ([[emails]] and [[webhooks]]) get a message."""

    collect_seconds: float = setting(
        60.0,
        "wait before an alert is sent, in one message with all that came in the meantime",
        unit="s",
        ge=0,
        le=86400,
    )
    interval_seconds: float = setting(300.0, "least time between two messages to a receiver", unit="s", ge=0, le=86400)
    remind_hours: float = setting(
        24.0, "time after which an alert that is still open is sent again; 0: never", unit="h", ge=0, le=8784
    )


class Receiver(Section):
    """Someone who gets alerts."""

    name: Name = setting(..., "short unique name", example="pacs-team")
    kinds: tuple[KindOfAlert, ...] = setting((), "kinds of alerts to send; empty: all")
    tls_ca: ExistingFile | None = setting(None, "CA certificates (PEM) for its server; unset: the system's")


class Email(Receiver):
    """Who gets alerts by e-mail."""

    to: tuple[Mailbox, ...] = setting(..., "addresses to write to", example=("pacs@hospital.example",))
    sender: Mailbox = setting(..., "address that messages come from", example="spineone@hospital.example")
    host: str = setting(..., "mail server (SMTP): host name or address", example="mail.hospital.example", min_length=1)
    port: Port = setting(587, 'its TCP port: usually 587 for "starttls", 465 for "tls", 25 for "none"')
    security: Literal["starttls", "tls", "none"] = setting(
        "starttls", 'how the connection is encrypted; "none" only inside a trusted network'
    )
    user: str = setting("", "user to log in as; empty: no login")
    password_file: ExistingFile | None = setting(None, "file that holds the user's password and nothing else")
    password_env: str = setting("", "or the name of an environment variable that holds the password")

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
    """Who gets alerts by an HTTP POST of JSON."""

    name: Name = setting(..., "short unique name", example="pager")
    url: Annotated[str, AfterValidator(check_url)] = setting(
        ..., "where to post", example="https://alerts.hospital.example/hook"
    )
    secret_file: ExistingFile | None = setting(
        None,
        "file that holds a key and nothing else; the header X-SpineOne-Signature is the body's HMAC-SHA256 with it",
    )
    secret_env: str = setting("", "or the name of an environment variable that holds the key")

    @model_validator(mode="after")
    def _one_secret(self) -> Webhook:
        if self.secret_file and self.secret_env:
            raise ValueError("give secret_file or secret_env, not both")
        return self


class AuditRules(Section):
    """The audit log (DICOM PS3.15 A.5): who sent, read, changed, exported or deleted what, in `audit/` of the data folder."""

    enabled: bool = setting(True, "whether an audit log is written")
    patient: bool = setting(
        False, "name the patient (ID and name) in it, as the standard asks; false: Study Instance UIDs alone"
    )
    site: Annotated[str, Field(max_length=64)] = setting("", "hospital or department (AuditEnterpriseSiteID)")
    file_mb: float = setting(20.0, "size at which a new file is started", unit="MB", gt=0, le=10000)
    keep_files: int = setting(
        100,
        "number of newest files that are kept; files that the repository has not got yet are kept too; 0: all",
        ge=0,
        le=100000,
    )
    repository_host: str = setting("", "audit repository that gets every message by syslog too; empty: none")
    repository_port: Port = setting(6514, "TCP or UDP port of the repository")
    repository_transport: Literal["tls", "tcp", "udp"] = setting(
        "tls", 'syslog over TLS (RFC 5425), "tcp" (the same without TLS) or "udp" (RFC 5426; it may lose messages)'
    )
    repository_ca: ExistingFile | None = setting(None, "CA certificates (PEM) for the repository; unset: the system's")
    repository_timeout_s: float = setting(
        10.0, "time that the repository has to accept a connection or data", unit="s", gt=0, le=600
    )
