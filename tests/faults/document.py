"""docs/reliability.md: what a campaign did and saw, and the table of the faults.

``python -m tests.faults.document`` brings the table of the faults up to date, and leaves what the last campaign saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    # Resident memory: when, and megabytes of the listener and of each worker.
    memory: list[tuple[str, ...]] = field(default_factory=list)
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
        report(found),
        faults(),
    ]
    return "\n\n".join(parts) + "\n"


_FAULTS = "## The faults"


def faults() -> str:
    """The section that follows from the table of the faults."""
    parts = [
        _FAULTS,
        'Each fault has a test that fails when the protection in the column "fails without" is taken out\n(docs/protections.md).',
        table(("#", "fault", "expected", "proven by", "fails without", "open"), map(_row, ROWS)),
    ]
    return "\n\n".join(parts)


def with_faults(text: str) -> str:
    """The file with this section as the table has it now."""
    return text[: text.index(_FAULTS)] + faults() + "\n"


def report(found: Found) -> str:
    """What the campaign itself did and saw."""
    parts = [
        table(("what", "seen"), found.figures),
        "Resident memory of one listener and of two workers, from the end of the kills to the end of the steady traffic:",
        table(_MEMORY[: len(found.memory[0])], found.memory),
        "The next table shows what became of broken messages, by what was broken: a PDU, or the data set of a transfer\n"
        "syntax; and of messages that cost more than they weigh.\n"
        '"Waited" means that the listener waited for more until the connection ended; "closed" and "cut" mean that it ended\n'
        "without a word.",
        _outcome_table(found.outcomes),
        "## Faults at random moments",
        table(("fault", "expected", "seen", "verdict"), map(_verdict, found.lines)),
    ]
    return "\n\n".join(parts)


_MEMORY = ("when", "listener, MB", "worker 1, MB", "worker 2, MB")


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


if __name__ == "__main__":
    _file = Path("docs/reliability.md")
    _file.write_text(with_faults(_file.read_text(encoding="utf-8")), encoding="utf-8")
