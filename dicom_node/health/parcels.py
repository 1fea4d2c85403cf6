"""How many files of results each destination, or each study, has in each state: counted once for all that is shown."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.database.tables import OutboxRow


class Parcels:
    """Counts of rows of the outbox by owner (the name of a destination, or a Study Instance UID), state and proof."""

    def __init__(self, rows: Iterable[tuple[str, str, str, int]]) -> None:
        self._rows = list(rows)

    @classmethod
    def of_all(cls, session: Session) -> Parcels:
        """The whole outbox, by destination."""
        columns = (OutboxRow.destination, OutboxRow.state, OutboxRow.proof)
        rows = session.execute(select(*columns, func.count()).group_by(*columns))
        return cls((owner, state, proof, count) for owner, state, proof, count in rows)

    @classmethod
    def of_studies(cls, session: Session, study_uids: Collection[str]) -> Parcels:
        """The files of these studies, by study."""
        columns = (OutboxRow.study_uid, OutboxRow.state, OutboxRow.proof)
        query = select(*columns, func.count()).where(OutboxRow.study_uid.in_(study_uids)).group_by(*columns)
        return cls((owner, state, proof, count) for owner, state, proof, count in session.execute(query))

    def number(self, owner: str | None = None, *, state: str | None = None, proof: Collection[str] = ()) -> int:
        """The number of files of an owner (of all, if None) in this state and with one of these proofs, where given."""
        return sum(
            count
            for name, its_state, its_proof, count in self._rows
            if owner in (None, name) and state in (None, its_state) and (not proof or its_proof in proof)
        )
