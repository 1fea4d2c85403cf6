"""The final account: every acknowledged image found again, every study ended, every result at the PACS exactly once."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from sqlalchemy import func, select

from dicom_node.database.connection import Database
from dicom_node.database.tables import Alert, Instance, Job, OutboxRow, ResultFile, ResultRow, StudyRow
from dicom_node.results.kinds import ALTERNATIVES
from tests.faults.mutants import Mutant
from tests.faults.site import Site
from tests.faults.traffic import Ledger

_REPORTS = (*ALTERNATIVES, *ALTERNATIVES.values())


@dataclass
class Account:
    """Its lists name what should not be there; they are empty if all is well."""

    lost: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    # On disk and not in the index, or the reverse.
    unmatched: list[str] = field(default_factory=list)
    # Studies without an end, and objects that a PACS should have but does not have.
    endless: list[str] = field(default_factory=list)
    not_delivered: list[str] = field(default_factory=list)
    # Objects at the PACS beyond one for each result and role, or that are not our results.
    duplicates: list[str] = field(default_factory=list)
    studies: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    # How many studies there are for each number of results.
    results_per_study: Counter[int] = field(default_factory=Counter)
    objects: int = 0
    # Arrivals of objects that the PACS had already: sent again after a kill, under the same UID.
    resent: int = 0

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        wrong = (self.lost, self.changed, self.unmatched, self.endless, self.not_delivered, self.duplicates)
        return not any(wrong)


def wait_until_quiet(database: Database, seconds: float) -> bool:
    """Wait until every study is complete, every job done and every object sent (or given up)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not _unfinished(database):
            return True
        time.sleep(0.5)
    return False


def _unfinished(database: Database) -> int:
    with database.read() as session:
        return sum(
            session.scalar(select(func.count()).where(condition)) or 0
            for condition in (
                StudyRow.state != "complete",
                Job.state.in_(("waiting", "running")),
                OutboxRow.state == "waiting",
            )
        )


def draw_up(site: Site, ledger: Ledger, mutants: Iterable[Mutant] = ()) -> Account:
    """Compare what was acknowledged with what is there."""
    account = Account()
    _look_for_images(account, site, ledger, mutants)
    _match_files(account, site)
    _look_for_ends(account, site, ledger)
    _look_at_the_pacs(account, site)
    return account


def data_set_of(path: Path) -> bytes:
    """A file without its preamble and file meta."""
    data = path.read_bytes()
    return data[144 + int.from_bytes(data[140:144], "little") :]


def _digest(path: Path) -> str:
    return hashlib.sha256(data_set_of(path)).hexdigest()


def _look_for_images(account: Account, site: Site, ledger: Ledger, mutants: Iterable[Mutant]) -> None:
    """Compare bit by bit. Mutated images that contradict others may be in quarantine."""
    root = site.settings.data_dir
    with site.database.read() as session:
        rows = session.execute(select(Instance.sop_instance_uid, Instance.path)).all()
    paths = defaultdict(list)
    for uid, path in rows:
        paths[uid].append(root / path)
    aside = {_digest(path) for path in (root / "quarantine").iterdir()}
    wanted = [(uid, digest, False) for uid, digest in ledger.acknowledged.items()]
    wanted += [(mutant.uid, hashlib.sha256(mutant.data).hexdigest(), True) for mutant in mutants]
    for uid, digest, is_mutant in wanted:
        kept = [path for path in paths[uid] if path.is_file()]
        if any(_digest(path) == digest for path in kept) or (is_mutant and digest in aside):
            continue
        (account.changed if kept else account.lost).append(uid)


def _match_files(account: Account, site: Site) -> None:
    root = site.settings.data_dir
    on_disk = {str(path.relative_to(root)) for path in (root / "instances").rglob("*") if path.is_file()}
    with site.database.read() as session:
        indexed = set(session.scalars(select(Instance.path)))
    left = {str(path.relative_to(root)) for path in (root / "spool").iterdir()}
    account.unmatched = sorted((on_disk ^ indexed) | left)


def _look_for_ends(account: Account, site: Site, ledger: Ledger) -> None:
    """A result or a refusal of the last generation, or an open alert that it was given up."""
    with site.database.read() as session:
        studies = session.scalars(select(StudyRow)).all()
        jobs = {(job.study_uid, job.generation): job for job in session.scalars(select(Job).order_by(Job.id))}
        statuses = {row.id: row.status for row in session.scalars(select(ResultRow))}
        per_study = Counter(session.scalars(select(ResultRow.study_uid)))
        given_up = set(
            session.scalars(
                select(Alert.subject).where(Alert.kind.in_(("job_failed", "two_patients")), Alert.closed_at.is_(None))
            )
        )
    account.studies = len(studies)
    account.endless = sorted(ledger.studies - {study.study_uid for study in studies})
    for study in studies:
        job = jobs.get((study.study_uid, study.generation))
        if job is not None and job.state == "done" and job.result_id in statuses:
            account.ends[statuses[job.result_id]] += 1
        elif job is not None and job.state == "failed" and study.study_uid in given_up:
            account.ends["alert"] += 1
        else:
            account.endless.append(study.study_uid)
        account.results_per_study[per_study[study.study_uid]] += 1


def _look_at_the_pacs(account: Account, site: Site) -> None:
    arrivals: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(site.archive.glob("*.dcm")):
        arrivals[path.name.rsplit(".", 2)[0]].append(path)
    account.objects = len(arrivals)
    account.resent = sum(len(paths) - 1 for paths in arrivals.values())
    with site.database.read() as session:
        files = {file.sop_instance_uid: file for file in session.scalars(select(ResultFile)) if file.sop_instance_uid}
        sent = session.execute(
            select(ResultFile.sop_instance_uid, OutboxRow.state).join(
                ResultFile, ResultFile.id == OutboxRow.result_file_id
            )
        ).all()
    account.not_delivered = [str(uid) for uid, state in sent if uid not in arrivals or state != "sent"]
    account.duplicates = [
        *_strangers(arrivals, files, site.settings.data_dir),
        *_second_ones(arrivals, files),
        *_broken_chains(arrivals, files),
    ]


def _strangers(arrivals: dict[str, list[Path]], files: dict[str, ResultFile], root: Path) -> list[str]:
    """Objects that are not a result, or whose bytes differ from the result's."""
    return [
        uid
        for uid, paths in arrivals.items()
        if uid not in files or {_digest(path) for path in paths} != {_digest(root / files[uid].path)}
    ]


def _second_ones(arrivals: dict[str, list[Path]], files: dict[str, ResultFile]) -> list[str]:
    """Objects beyond the first of a result and role; both forms of a report are one role."""
    seen: set[tuple[int, str]] = set()
    again = []
    for uid in arrivals:
        if uid in files:
            file = files[uid]
            key = file.result_id, "report" if file.role in _REPORTS else file.role
            again += [uid] if key in seen else []
            seen.add(key)
    return again


def _broken_chains(arrivals: dict[str, list[Path]], files: dict[str, ResultFile]) -> list[str]:
    """Studies for which the PACS alone does not show exactly one last report; each report names the one before it."""
    predecessors: dict[str, list[str]] = defaultdict(list)
    for uid, paths in arrivals.items():
        if uid in files and files[uid].role in _REPORTS:
            report = dcmread(paths[0])
            predecessors[str(report.StudyInstanceUID)].append(_predecessor(report))
    return [study for study, named in predecessors.items() if len(set(named)) != len(named) or "" not in named]


def _predecessor(report: object) -> str:
    for item in getattr(report, "PredecessorDocumentsSequence", ()):
        return str(item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    return ""
