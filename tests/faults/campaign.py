"""Faults at random moments against a whole node, as many as wanted, while studies stream in by C-STORE.

They are kill -9 of every process, outages and broken messages. In the end every image, study and result is checked. The
seed repeats a campaign.

    python -m tests.faults.campaign --kills 500 --pdus 100000 --files 5000 --write docs/reliability.md
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
from tests.faults import outages
from tests.faults.account import Account, draw_up, wait_until_quiet
from tests.faults.barrage import HUNG, Barrage
from tests.faults.document import Found, Line, document
from tests.faults.kills import killing
from tests.faults.memory import Curve, watching
from tests.faults.mutants import KINDS_OF_FILES, Mutant, mutated
from tests.faults.site import Site, running_site
from tests.faults.traffic import Ledger, Studies, traffic

KEPT = Path("build/campaign")
_MOST_GROWTH = 20_000_000
_MOST_START_S = 3.0
_QUIET_WITHIN_S = 900.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything. ``instances`` are indexed when the start is measured; 0: it is not."""

    kills: int = 500
    pdus: int = 100_000
    files: int = 5_000
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
    has_own_disk
        Whether the node's data lie on a disk that may be filled.
    """

    plan: Plan
    site: Site
    has_own_disk: bool
    kept: Path
    found: Found = field(default_factory=Found)
    ledger: Ledger = field(default_factory=Ledger)
    began: float = field(default_factory=time.monotonic)

    def run(self) -> Found:
        """Run everything, in an order in which one listener is no longer killed once the first outage begins."""
        studies = Studies(self.plan.seed)
        with traffic(self.site.port, self.ledger, studies, senders=self.plan.senders):
            self._kill()
            with watching(self.site.listener) as curve:
                self._fail_around(studies)
                acknowledged = self._break_messages()
        self._restart()
        self._say("quiet")
        quiet = wait_until_quiet(self.site.database, _QUIET_WITHIN_S)
        self._say("accounts")
        account = draw_up(self.site, self.ledger, acknowledged)
        self._sum_up(account, quiet)
        self._remember(curve)
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
        if self.has_own_disk:
            self._note(outages.full_disk(self.site, self.ledger, self.plan.full_s))
        else:
            self._say("no full disk: this user may not mount one")
        self._note(outages.pacs_away(self.site, self.plan.away_s, kills=self.plan.pacs_kills, seed=self.plan.seed))

    def _restart(self) -> None:
        """Whole files of images that were not acknowledged are indexed at a start."""
        status = self.site.restart_listener()
        self._note(
            Line("SIGTERM of the listener after all of it", "stops cleanly", f"exit status {status}", status == 0)
        )

    def _break_messages(self) -> list[Mutant]:
        """The mutated images that were acknowledged."""
        plan, ended = self.plan, list[str]()
        make = mutated(plan.seed, plan.pdus, plan.files)
        barrage = Barrage(self.site.port, make, plan.pdus + plan.files, self.kept)
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
        for what, are_files in (("mutated PDUs", False), ("mutated files", True)):
            outcomes: Counter[str] = Counter()
            for (kind, outcome), number in seen.items():
                if (kind in KINDS_OF_FILES) == are_files:
                    outcomes[outcome] += number
            counts = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.most_common())
            self._figure(what, f"{outcomes.total()}: {counts}")
        hung = sum(number for (_, outcome), number in seen.items() if outcome == HUNG)
        self._note(
            Line(
                f"{self.plan.pdus} mutated PDUs, {self.plan.files} mutated files among them",
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

    def _remember(self, curve: Curve) -> None:
        self.found.memory = [
            (f"{share:.0%}, after {curve.at(share)[0]:.0f} s", f"{curve.at(share)[1] / 1e6:.0f}")
            for share in (0, 0.1, 0.25, 0.5, 0.75, 1)
        ]
        growth = f"{curve.growth / 1e6:.1f} MB"
        self._figure("growth of the listener's resident memory after its warm-up (the first tenth)", growth)
        self._note(Line("memory over the campaign", "flat within 20 MB", growth, curve.growth < _MOST_GROWTH))

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
    with outages.small_disk(folder, plan.disk_mb) as disk, running_site(folder, (disk or folder) / "data") as site:
        found = Campaign(plan, site, disk is not None, kept).run()
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


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("kills", "pdus", "files", "crowd", "instances"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Plan(), name))
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--write", type=Path)
    parser.add_argument("--folder", type=Path, help="keep everything here, in a folder that does not exist yet")
    asked = parser.parse_args()
    # Then a campaign that is stopped also stops its processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    names = ("kills", "pdus", "files", "crowd", "instances", "seed")
    plan = Plan(**{name: getattr(asked, name) for name in names})
    print(f"seed {plan.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="campaign-") as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = run(folder, plan)
    print("\n".join(f"{what}: {seen}" for what, seen in found.figures))
    if asked.write:
        asked.write.write_text(document(found), encoding="utf-8")
    raise SystemExit(0 if found.is_good else 1)


if __name__ == "__main__":
    main()
