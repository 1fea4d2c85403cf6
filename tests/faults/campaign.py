"""Faults at random moments against a whole node, as many as wanted, while studies stream in by C-STORE.

They are kill -9 of every process, outages, messages that are broken or cost more than they weigh, floods, half an hour of
steady traffic, and what goes wrong below a node: clock, database file, disk. In the end every image, study and result is
checked. The seed repeats a campaign.

    python -m tests.faults.campaign --kills 500 --pdus 100000 --files 5000 --soak-minutes 30 --write docs/reliability.md
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import restart
from dicom_node.database.connection import BUSY_TIMEOUT_S
from tests.faults import bombs, floods, mishaps, outages
from tests.faults.account import Account, draw_up, wait_until_quiet
from tests.faults.barrage import HUNG, Barrage
from tests.faults.disk import Disk, own_disk
from tests.faults.document import Found, Line, document, report
from tests.faults.kills import killing
from tests.faults.memory import Curve, watching
from tests.faults.mutants import KINDS_OF_FILES, Mutant, mutated, spread
from tests.faults.site import Site, running_site
from tests.faults.traffic import Ledger, Studies, traffic

KEPT = Path("build/campaign")
# Growth over all of it, and the most for a moment: the listener may hold `max_memory_mb` beside what it is; a worker decodes and
# reads series of very many pixels.
# A short campaign is over before everything has been done once.
_LONG_ENOUGH_S = 900.0
_MOST_GROWTH = {"listener": 20_000_000, "worker": 60_000_000}
_MOST_AT_ONCE = {"listener": 800_000_000, "worker": 2_500_000_000}
_MOST_START_S = 3.0
_QUIET_WITHIN_S = 900.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything. ``instances`` are indexed when the start is measured; 0: it is not."""

    kills: int = 500
    pdus: int = 100_000
    files: int = 5_000
    # Messages that cost more than they weigh, calls of strangers, idle sockets at the web port.
    costly: int = 500
    strangers: int = 30_000
    idle: int = 200
    soak_minutes: float = 30.0
    # Whether clock, database file and disk fail too.
    mishaps: bool = True
    crowd: int = 200
    instances: int = 100_000
    # Longer than a writer waits for another one.
    locked_s: float = BUSY_TIMEOUT_S + 5.0
    full_s: float = 15.0
    pacs_kills: int = 10
    away_s: float = 15.0
    disk_mb: int = 6000
    senders: int = 3
    seed: int = 0


@dataclass
class Campaign:
    """One run on a site.

    Parameters
    ----------
    disk
        The disk of the node's data, if it may be filled; None if not.
    """

    plan: Plan
    site: Site
    disk: Disk | None
    kept: Path
    found: Found = field(default_factory=Found)
    ledger: Ledger = field(default_factory=Ledger)
    began: float = field(default_factory=time.monotonic)

    def run(self) -> Found:
        """Run everything, in an order in which one listener is no longer killed once the first outage begins."""
        studies = Studies(self.plan.seed)
        with traffic(self.site.port, self.ledger, studies, senders=self.plan.senders):
            self._kill()
            watched = {name: self.site.roles[name] for name in ("listener", "worker-1", "worker-2")}
            with watching(watched) as curves:
                self._fail_around(studies)
                acknowledged = self._break_messages()
                self._flood()
                if self.plan.soak_minutes:
                    self._note(floods.soak(self.site, self.ledger, 60 * self.plan.soak_minutes))
            if self.plan.mishaps:
                self._fail_below()
        self._restart()
        self._say("quiet")
        quiet = wait_until_quiet(self.site.database, _QUIET_WITHIN_S)
        self._say("accounts")
        account = draw_up(self.site, self.ledger, acknowledged)
        self._sum_up(account, quiet)
        self._remember(curves)
        return self.found

    # ------------------------------------------------------------ faults

    def _kill(self) -> None:
        with killing(self.site.roles, self.plan.kills, self.plan.seed) as killer:
            while not killer.is_over():
                time.sleep(1)
                self._say(f"{killer.kills.total()} kills", every_s=30)
        counts = ", ".join(f"{role} {killer.kills[role]}" for role in sorted(killer.kills))
        self._note(
            Line(
                f"kill -9 at {killer.kills.total()} random moments: {counts}",
                "every process serves again by itself",
                "; ".join(killer.errors) or "all served again",
                not killer.errors,
            )
        )
        for role, seconds in sorted(killer.starts.items()):
            median, worst = statistics.median(seconds), max(seconds)
            self._figure(f"restart of the {role} under load, median and worst", f"{median:.1f} s, {worst:.1f} s")

    def _fail_around(self, studies: Studies) -> None:
        images = [image for _ in range(self.plan.crowd // 5 + 1) for image in studies.make()][: self.plan.crowd]
        self._note(outages.crowd(self.site, self.ledger, images))
        self._note(outages.locked_database(self.site, self.ledger, self.plan.locked_s))
        if self.disk is not None:
            self._note(outages.full_disk(self.site, self.ledger, self.plan.full_s))
        else:
            self._say("no full disk: this user may not mount one")
        self._note(outages.pacs_away(self.site, self.plan.away_s, kills=self.plan.pacs_kills, seed=self.plan.seed))

    def _flood(self) -> None:
        if self.plan.strangers:
            self._note(floods.strangers(self.site, self.plan.strangers))
        if self.plan.idle:
            self._note(floods.idle_sockets(self.site, self.plan.idle))
        self._note(floods.quarantine(self.site))

    def _fail_below(self) -> None:
        if mishaps.has_movable_clock():
            self._note(mishaps.clock_steps(self.site, self.ledger))
        else:
            self._say("the clock stays: libfaketime is not installed")
        self._note(mishaps.lost_database(self.site, self.ledger, self.plan.away_s))
        if self.disk is not None:
            self._note(mishaps.no_inodes(self.site, self.ledger))
        if self.disk is not None and self.disk.can_fail():
            self._note(mishaps.disk_error(self.site, self.ledger, self.disk, self.plan.full_s))

    def _restart(self) -> None:
        """Whole files of images that were not acknowledged are indexed at a start."""
        status = self.site.restart_listener()
        self._note(
            Line("SIGTERM of the listener after all of it", "stops cleanly", f"exit status {status}", status == 0)
        )

    def _break_messages(self) -> list[Mutant]:
        """The mutated images that were acknowledged."""
        plan, ended = self.plan, list[str]()
        count = plan.pdus + plan.files + plan.costly
        make = spread(count, plan.costly, bombs.costly, mutated(plan.seed, plan.pdus, plan.files))
        barrage = Barrage(self.site.port, make, count, self.kept)
        barrage.start()
        try:
            while not barrage.is_over():
                time.sleep(0.2)
                if not all(process.is_running() for process in self.site.roles.values()):
                    barrage.keep_in_flight("ended")
                    ended += self.site.fallen()
                self._say(f"{barrage.sent} broken messages", every_s=30)
        finally:
            barrage.stop()
        self._note_outcomes(barrage.outcomes, ended)
        self._figure("broken messages that found no place at first and were sent again", str(barrage.busy))
        return barrage.acknowledged

    def _note_outcomes(self, seen: Counter[tuple[str, str]], ended: list[str]) -> None:
        """``ended``: processes that ended meanwhile."""
        self.found.outcomes += seen
        pdus = {kind for kind, _ in seen} - KINDS_OF_FILES - bombs.KINDS
        for what, kinds in (
            ("mutated PDUs", pdus),
            ("mutated files", KINDS_OF_FILES),
            ("messages that cost more than they weigh", bombs.KINDS),
        ):
            outcomes: Counter[str] = Counter()
            for (kind, outcome), number in seen.items():
                if kind in kinds:
                    outcomes[outcome] += number
            counts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
            self._figure(what, f"{outcomes.total()}: {counts}")
        hung = sum(number for (_, outcome), number in seen.items() if outcome == HUNG)
        self._note(
            Line(
                f"{self.plan.pdus} mutated PDUs, {self.plan.files} mutated files, {self.plan.costly} costly messages",
                "answered, refused or cut; no process ends, none hangs",
                f"{len(ended)} processes ended by input, {hung} hung",
                not ended and not hung,
            )
        )

    # ------------------------------------------------------------ the end

    def _sum_up(self, account: Account, quiet: bool) -> None:
        ledger, ends = self.ledger, account.ends
        per_study = ", ".join(f"{count} with {number}" for number, count in sorted(account.results_per_study.items()))
        self.found.figures[:0] = [
            ("images sent (attempts)", f"{ledger.sent}"),
            ("images acknowledged", f"{len(ledger.acknowledged)}"),
            ("acknowledged images lost", f"{len(account.lost)}"),
            ("acknowledged images with other bytes", f"{len(account.changed)}"),
            ("studies accepted, those of mutated images among them", f"{account.studies}"),
            (
                "their ends",
                f"{ends['analysed']} analysed, {ends['not_analysable']} refused with a code, {ends['alert']} alerts, "
                f"{len(account.endless)} without an end",
            ),
            ("studies by number of results (one for each set of images)", per_study),
            ("objects at the PACS", f"{account.objects}; {account.resent} came again under the same UID"),
            ("duplicate results", f"{len(account.duplicates)}"),
        ]
        self._note_truths(account, quiet)
        self._note_logs()

    def _note_truths(self, account: Account, quiet: bool) -> None:
        for fault, expected, wrong in (
            ("acknowledged images", "all on disk and indexed, bit by bit", account.lost + account.changed),
            ("disk and index", "the same files in both", account.unmatched),
            ("accepted studies", "each ends in a result, a coded refusal or an alert", account.endless),
            ("results", "each at the PACS", account.not_delivered),
            ("results", "none twice, each study one chain of reports", account.duplicates),
        ):
            seen = "so it is" if not wrong else f"{len(wrong)} are not: {', '.join(wrong[:5])}"
            self._note(Line(f"after all of it: {fault}", expected, seen, not wrong))
        refused = self.ledger.for_good()
        self._note(Line("after all of it: good images", "none refused for good", f"{refused} refused", not refused))
        if not quiet:
            self._note(Line("after all of it", "work ends", f"not within {_QUIET_WITHIN_S:.0f} s", False))

    def _note_logs(self) -> None:
        logs = list(self.site.logs())
        named = sum("SECRET" in line for _, line in logs)
        traces = sum("Traceback" in line for name, line in logs if name != "pacs.log")
        self._note(
            Line(
                "after all of it: names and ids in logs",
                "none, and no traceback",
                f"{named} and {traces} in {len(logs)} lines",
                not named and not traces,
            )
        )

    def _remember(self, curves: dict[str, Curve]) -> None:
        shares = (0, 0.1, 0.25, 0.5, 0.75, 1)
        at = {share: next(iter(curves.values())).at(share)[0] for share in shares}
        self.found.memory = [
            (f"{share:.0%}, after {at[share]:.0f} s", *(f"{curve.at(share)[1] / 1e6:.0f}" for curve in curves.values()))
            for share in shares
        ]
        for name, curve in curves.items():
            role = name.partition("-")[0]
            growth, peak = f"{curve.growth / 1e6:.1f} MB", f"{curve.peak / 1e6:.0f} MB"
            most, once = _MOST_GROWTH[role], _MOST_AT_ONCE[role]
            self._figure(f"{name}: growth of resident memory after its warm-up, and its peak", f"{growth}, {peak}")
            self._note(
                Line(
                    f"memory of {name} over the campaign",
                    f"flat within {most / 1e6:.0f} MB (if it lasts), never more than {once / 1e6:.0f} MB",
                    f"{growth}, {peak}",
                    (curve.growth < most or curve.seconds < _LONG_ENOUGH_S) and 0 < curve.peak < once,
                )
            )

    def _note(self, line: Line) -> None:
        self.found.lines.append(line)
        self._say(str(line))

    def _figure(self, what: str, seen: str) -> None:
        self.found.figures.append((what, seen))

    _said: float = 0.0

    def _say(self, text: str, *, every_s: float = 0.0) -> None:
        """A line of progress."""
        now = time.monotonic()
        if now - self._said >= every_s:
            self._said = now
            print(f"{now - self.began:7.0f} s  {text}", flush=True)


def run(folder: Path, plan: Plan, kept: Path = KEPT) -> Found:
    """Run a campaign in an empty folder; messages after which something was wrong go to ``kept``."""
    began = time.monotonic()
    with own_disk(folder, plan.disk_mb) as disk, running_site(folder, (disk.at if disk else folder) / "data") as site:
        found = Campaign(plan, site, disk, kept).run()
    if plan.instances:
        note_restart(found, plan.instances)
    found.figures += [("seed", str(plan.seed)), ("duration", f"{(time.monotonic() - began) / 60:.0f} min")]
    return found


def note_restart(found: Found, instances: int) -> None:
    """How long a listener needs to serve with so many instances."""
    with tempfile.TemporaryDirectory(prefix="restart-") as folder:
        seconds = restart.measure(Path(folder), instances)
    seen = f"median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s of {len(seconds)}"
    found.figures.append((f"start to serving with {instances} instances indexed", seen))
    found.lines.append(
        Line(f"restart with {instances} instances", "serves within 3 s", seen, max(seconds) < _MOST_START_S)
    )
    print(found.lines[-1], flush=True)


_NUMBERS = ("kills", "pdus", "files", "costly", "strangers", "idle", "crowd", "instances")


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in _NUMBERS:
        parser.add_argument(f"--{name}", type=int, default=getattr(Plan(), name))
    parser.add_argument(
        "--soak-minutes", type=float, default=Plan.soak_minutes, help="of steady traffic and nothing else"
    )
    parser.add_argument("--no-mishaps", action="store_true", help="clock, database file and disk stay as they are")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--folder", type=Path, help="keep everything here, in a folder that does not exist yet")
    asked = parser.parse_args()
    # Then a campaign that is stopped also stops its processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    numbers = {name: getattr(asked, name) for name in (*_NUMBERS, "seed", "soak_minutes")}
    plan = Plan(**numbers, mishaps=not asked.no_mishaps)
    print(f"seed {plan.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="campaign-") as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = run(folder, plan)
    print(report(found))
    if asked.write:
        asked.write.write_text(document(found), encoding="utf-8")
    raise SystemExit(0 if found.is_good else 1)


if __name__ == "__main__":
    main()
