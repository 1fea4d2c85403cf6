"""A PACS that answers storage commitment and C-FIND, in the order that a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StudyRootQueryRetrieveInformationModelFind

from dicom_node.commitment.messages import (
    SOP_CLASS,
    SOP_INSTANCE,
    CommitmentAnswer,
    CommitmentRequest,
    Reference,
    encode_answer,
    read_request,
)
from tests.fakes.pacs import SC, SR, FakePacs


class CommittingPacs(FakePacs):
    """Commits to what it stored.

    ``order`` says when it answers: ``before`` the N-ACTION response, ``after`` it on the same association, on a ``new``
    one to ``listener_port``, or ``never``. ``reasons`` are the failures to report by SOP Instance UID; ``forgets`` are
    objects that C-FIND does not show.
    """

    def __init__(self, listener_port: int = 0) -> None:
        super().__init__()
        self.order = "after"
        self.listener_port = listener_port
        self.reasons: dict[str, int] = {}
        self.forgets: set[str] = set()
        self.requests: list[CommitmentRequest] = []
        self.queries: list[Dataset] = []
        self.refuse_request = 0x0000
        self.last_report: int | None = None

    def on_action(self, event: Any) -> tuple[int, None]:
        request = read_request(event.request.ActionInformation.getvalue(), event.context.transfer_syntax)
        self.requests.append(request)
        if self.refuse_request:
            return self.refuse_request, None
        if self.order == "before":
            self.report_on(event.assoc, request)
        elif self.order == "after":
            threading.Thread(target=self._report_after, args=(event.assoc, request), daemon=True).start()
        elif self.order == "new":
            threading.Thread(target=self.report_anew, args=(request,), daemon=True).start()
        return 0x0000, None

    def answer_to(self, request: CommitmentRequest) -> CommitmentAnswer:
        def reason(reference: Reference) -> int:
            uid = reference.sop_instance_uid
            return self.reasons.get(uid, 0 if uid in self.uids else 0x0112)

        return CommitmentAnswer(
            request.transaction_uid,
            tuple(r for r in request.references if not reason(r)),
            tuple((r, reason(r)) for r in request.references if reason(r)),
        )

    def report_on(self, association: Any, request: CommitmentRequest) -> None:
        answer = self.answer_to(request)
        status, _ = association.send_n_event_report(
            encode_answer(answer), answer.event_type, SOP_CLASS, SOP_INSTANCE, msg_id=7
        )
        self.last_report = status.get("Status")

    def _report_after(self, association: Any, request: CommitmentRequest) -> None:
        threading.Event().wait(0.2)
        self.report_on(association, request)

    def report_anew(self, request: CommitmentRequest, ae_title: str = "PACS") -> None:
        ae = AE(ae_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 5
        ae.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = ae.associate("127.0.0.1", self.listener_port, ae_title="SPINEONE", ext_neg=[role])
        assert association.is_established
        self.report_on(association, request)
        association.release()

    def on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query = event.identifier
        self.queries.append(query)
        uid = str(query.get("SOPInstanceUID", ""))
        if uid in self.uids and uid not in self.forgets:
            match = Dataset()
            match.QueryRetrieveLevel = "IMAGE"
            match.SOPInstanceUID = uid
            yield 0xFF00, match
        yield 0x0000, None


@contextmanager
def running_committing_pacs(
    port: int, *, listener_port: int = 0, commits: bool = True, finds: bool = True
) -> Iterator[CommittingPacs]:
    """A PACS on a port of this machine, with or without storage commitment and C-FIND."""
    pacs = CommittingPacs(listener_port)
    ae = AE("PACS")
    ae.require_called_aet = True
    for uid in (SR, SC):
        ae.add_supported_context(uid)
    if commits:
        ae.add_supported_context(StorageCommitmentPushModel)
    if finds:
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    handlers: list[Any] = [
        (evt.EVT_C_STORE, pacs.on_store),
        (evt.EVT_N_ACTION, pacs.on_action),
        (evt.EVT_C_FIND, pacs.on_find),
        (evt.EVT_ESTABLISHED, pacs.on_established),
    ]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield pacs
    finally:
        server.shutdown()
