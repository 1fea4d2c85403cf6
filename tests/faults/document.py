"""docs/reliability.md: what a campaign did and saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.faults.protection_table import PROTECTIONS
from tests.faults.table import ROWS, Row


@dataclass(frozen=True, slots=True)
class Line:
    """One fault of the campaign."""

    fault: str
    expected: str
    seen: str
    is_good: bool

    def __str__(self) -> str:
        return f"{'good' if self.is_good else 'NOT GOOD'}: {self.fault}: {self.seen}"


@dataclass
class Found:
    """Figures and lines of a campaign."""

    figures: list[tuple[str, str]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    # Resident memory: when, and megabytes of the listener.
    memory: list[tuple[str, str]] = field(default_factory=list)
    # How often (kind of broken message, what became of it).
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def is_good(self) -> bool:
        """Whether every line is."""
        return all(line.is_good for line in self.lines)


def document(found: Found) -> str:
    """The whole file."""
    parts = [
        "# Reliability",
        "For those who ask whether the node loses anything: what a campaign of random faults did, and what it saw.",
        "`make campaign` writes this document. It sets random faults on a whole node of real processes while studies stream "
        "in.\nThe faults at the end have tests of their own. The last campaign:",
        table(("what", "seen"), found.figures),
        "Resident memory of one listener, from the end of the kills to the end of the mutations:",
        table(("when", "MB"), found.memory),
        "The next table shows what became of broken messages, by what was broken: a PDU, or the data set of a transfer\n"
        'syntax. "Waited" means that the listener waited for more until the connection ended; "closed" and "cut" mean\n'
        "that it ended without a word.",
        _outcome_table(found.outcomes),
        "## Faults at random moments",
        table(("fault", "expected", "seen", "verdict"), map(_verdict, found.lines)),
        "## Faults with tests of their own",
        'Each fault has a test that fails when the protection in the column "fails without" is taken out\n(docs/protections.md).',
        table(("#", "fault", "expected", "proven by", "fails without", "open"), map(_row, ROWS)),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def _outcome_table(outcomes: Counter[tuple[str, str]]) -> str:
    kinds, ends = sorted({kind for kind, _ in outcomes}), sorted({end for _, end in outcomes})
    return table(("kind", *ends), ([kind, *(str(outcomes[kind, end]) for end in ends)] for kind in kinds))


def _verdict(line: Line) -> tuple[str, ...]:
    return line.fault, line.expected, line.seen, "good" if line.is_good else "**not good**"


def _row(row: Row) -> tuple[str, ...]:
    tests = "<br>".join(f"`{name.split('::')[1]}`" for name in row.tests)
    taken_out = "<br>".join(p.name for p in PROTECTIONS if p.row == row.number) or "not ours"
    return str(row.number), row.fault, row.expected, tests, taken_out, row.open
