"""Answering senders that asked us to keep their images, by an N-EVENT-REPORT on an association that we open to them."""

from __future__ import annotations

from dicom_node.commitment import promises
from dicom_node.commitment.messages import SOP_CLASS, SOP_INSTANCE, CommitmentAnswer, encode_answer
from dicom_node.commitment.promises import Promise
from dicom_node.database.connection import Database
from dicom_node.dicom.remote import RemoteAE
from dicom_node.errors import DeliveryError
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import back_off, utc_now
from dicom_node.system.log import get_logger


class Answers:
    """Sends the answers that are due. There must be one instance for each database."""

    def __init__(self, settings: NodeSettings, database: Database) -> None:
        self._settings = settings
        self._database = database

    def answer_due(self) -> None:
        """Try once to send every answer that is due."""
        with self._database.read() as session:
            due = promises.due(session, now=utc_now())
        for promise in due:
            self._answer(promise)

    def _answer(self, promise: Promise) -> None:
        partner = self._settings.answers_to(promise.calling_ae)
        if partner is None:
            self._failed(
                promise, "it took no answer on its association, and [[peers]] has no host and port for it", None
            )
            return
        answer = promises.judge(self._database, self._settings.data_dir, promise)
        remote = RemoteAE.of(self._settings, partner)
        rules = self._settings.delivery
        try:
            self._report(remote, answer)
        except DeliveryError as error:
            self._failed(promise, str(error), back_off(promise.attempts + 1, rules.retry_first_s, rules.retry_max_s))
            return
        with self._database.write() as session:
            promises.mark_answered(session, promise)
        get_logger().info(
            "commitment_answered",
            calling_ae=promise.calling_ae,
            transaction_uid=answer.transaction_uid,
            kept=len(answer.kept),
            failed=len(answer.failed),
        )

    def _report(self, remote: RemoteAE, answer: CommitmentAnswer) -> None:
        with remote.association([(SOP_CLASS, ())], as_scp=[SOP_CLASS]) as association:
            try:
                status, _ = association.send_n_event_report(
                    encode_answer(answer), answer.event_type, SOP_CLASS, SOP_INSTANCE, msg_id=1
                )
            except (OSError, RuntimeError, ValueError, AttributeError) as error:
                raise DeliveryError(f"the answer cannot be sent ({type(error).__name__})") from None
        if "Status" not in status or status.Status != 0:
            raise DeliveryError(f"the answer was not taken (status {status.get('Status', 'none')})")

    def _failed(self, promise: Promise, why: str, after: float | None) -> None:
        get_logger().warning("commitment_not_answered", calling_ae=promise.calling_ae, why=why)
        with self._database.write() as session:
            promises.mark_unanswered(session, promise, why, after=after)
