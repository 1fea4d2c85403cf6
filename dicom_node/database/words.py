"""The words that stand in columns: states, roles, kinds of alerts. No SQL here."""

from __future__ import annotations

STUDY_STATES = ("receiving", "complete")
JOB_STATES = ("waiting", "running", "done", "failed")
ACTIVE_JOB_STATES = ("waiting", "running")
RESULT_STATUSES = ("analysed", "not_analysable")
OUTBOX_STATES = ("waiting", "sent", "failed")
# Evidence that a destination keeps an object, and how far the node is with getting it.
EVIDENCE = ("committed", "found")
UNPROVEN = ("wanted", "asked")
PROOFS = ("none", *UNPROVEN, *EVIDENCE)
RESULT_ROLES = (
    "report",
    "report_2d",
    "overlay",
    "table",
    "sheet",
    "picture",
    "presentation",
    "key_object",
    "findings",
)


# Every kind, in words for whoever is told of it.
KINDS = {
    "quarantine": "an object was put aside; the detail says why and where",
    "missing_file": "an indexed file is not on disk, or has other bytes",
    "disk_reserve": "too little free space: images are refused",
    "refused": "an association or an object was refused",
    "study_limit": "a study is larger than the settings allow: its further images are refused",
    "incomplete_study": "the sender's archive has more images of a study than came; it was analysed as it is",
    "two_patients": "a study holds images of two Patient IDs; only those of the newest are analysed",
    "job_failed": "an analysis was given up",
    "delivery_failed": "a destination refuses a result for good",
    "not_kept": "a destination does not have what it had acknowledged; it is sent again",
    "not_proven": "a destination does not answer the question whether it keeps what it got; it is asked again",
    "commitment_unanswered": "a sender that asked us to keep its images could not be given the answer",
    "destination_down": "a destination cannot be reached; delivery goes on trying",
    "receiver_down": "a receiver of alerts cannot be told; it is tried again",
    "process_restarted": "a process of the node ended by itself",
    "web_unavailable": "the web process cannot listen on its port",
    "audit_behind": "the audit repository cannot be reached; its messages are kept and sent later",
}
