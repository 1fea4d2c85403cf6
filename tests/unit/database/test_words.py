"""Words that stand in columns, settings, mails and labels: they never change."""

from __future__ import annotations

from dicom_node.database import words
from dicom_node.database.words import AlertKind, JobState, OutboxState, Proof, StudyState
from spineone_core.findings import Status


def test_words__of_states() -> None:
    assert words.STUDY_STATES == tuple(StudyState) == ("receiving", "complete")
    assert words.JOB_STATES == tuple(JobState) == ("waiting", "running", "done", "failed")
    assert words.ACTIVE_JOB_STATES == ("waiting", "running")
    assert words.RESULT_STATUSES == tuple(Status) == ("analysed", "not_analysable")
    assert words.OUTBOX_STATES == tuple(OutboxState) == ("waiting", "sent", "failed")
    assert words.PROOFS == tuple(Proof) == ("none", "wanted", "asked", "committed", "found")
    assert words.UNPROVEN == ("wanted", "asked")
    assert words.EVIDENCE == ("committed", "found")
    assert words.KEPT == "kept"
    assert ", ".join(words.Cause) == (
        "first, by_hand, released, corrected_patient, new_accession, changed_series, changed_images, new_model, "
        "new_settings, unchanged"
    )


def test_alert_kinds__as_they_are_stored() -> None:
    assert ", ".join(AlertKind) == (
        "quarantine, missing_file, disk_reserve, refused, study_limit, incomplete_study, two_patients, identifier, "
        "job_failed, delivery_failed, not_kept, not_proven, commitment_unanswered, destination_down, receiver_down, "
        "clock, timer_stuck, database_lost, process_restarted, web_unavailable, audit_behind"
    )
    assert f"{AlertKind.JOB_FAILED}" == str(AlertKind("job_failed")) == "job_failed"


def test_alert_kinds__have_words_for_people() -> None:
    assert AlertKind.JOB_FAILED.words == AlertKind.words_of("job_failed") == "an analysis was given up"
    assert all(kind.words for kind in AlertKind)
    assert AlertKind.words_of("of a later version") == ""
