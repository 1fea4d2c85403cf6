"""A smoke test that says something: a few rows, one for each mechanism, trained until they do better than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spineone_core.network import rows
from trainer.evaluation.outcomes import Outcome
from trainer.recipes import BEST_ROW
from trainer.reproduce import paper, report, scores
from trainer.reproduce.budget import Budget
from trainer.reproduce.exams import phantom_set
from trainer.reproduce.report import Figure, Item, Line, Table
from trainer.reproduce.reproduction import title_of
from trainer.reproduce.trainings import Trainings
from trainer.training.options import RunOptions
from trainer.training.run_folder import TrainingError

# What each row shows beside the one above it.
MECHANISMS: dict[str, str] = {
    "conventional heatmap": "deeplabv3plus-resnet50-plain",
    "OCPC without offsets": "deeplabv3plus-resnet50-ocpc-no-offset",
    "OCPC": "deeplabv3plus-resnet50-ocpc",
    "position attention": "deeplabv3plus-resnet50-ocpc-pam",
    "channel attention": "deeplabv3plus-resnet50-ocpc-cam",
    "objective association": "deeplabv3plus-resnet50-ocpc-oa",
    "two stages": "two-stage-hrnet-w32-resnet18",
    "FCOS": "one-stage-fcos-resnet101",
    "everything": BEST_ROW,
}
TRAINING, TEST, SLICES = 24, 12, 7
NOTES = (
    "Chance: the same outputs counted against the next exam. Every F1 must be above it. Precision and recall are shown alone:"
    " Section IV-B takes precision over the hits, and by chance there are few.",
    "Whether one row is better than another, this does not say.",
)


def nightly(out: Path, options: RunOptions, seed: int = 0, mechanisms: Sequence[str] = tuple(MECHANISMS)) -> list[Path]:
    """Train the rows, and write ``nightly.md``, ``.csv`` and ``.html`` with each cell beside its chance.

    Raises
    ------
    TrainingError
        Once everything is written, if an F1 is not above chance; the message names it.
    """
    exams, budget = phantom_set(training=TRAINING, test=TEST, slices=SLICES), Budget.nightly()
    trainings = Trainings(exams, budget, seed, out / "runs", options)
    lines, failed = [], list[str]()
    for mechanism in mechanisms:
        row = rows.find_row(MECHANISMS[mechanism])
        try:
            outcomes = trainings.outcomes(row)
        except TrainingError as error:
            lines.append(Line((mechanism, row.name), tuple(Figure(None, None) for _ in paper.SIX_NAMES), str(error)))
            failed.append(f"{mechanism}: {error}")
            continue
        pairs = list(zip(paper.SIX_NAMES, by_chance(outcomes), scores.six_scores(outcomes), strict=True))
        lines.append(Line((mechanism, row.name), tuple(Figure(chance, ours) for _, chance, ours in pairs)))
        low = [
            f"{name} {ours.value:.3f} (chance {chance:.3f})"
            for name, chance, ours in pairs
            if name.endswith("F1") and not ours.value > chance
        ]
        failed += [f"{mechanism}: {', '.join(low)}"] if low else []
    table = Table(("mechanism", "row"), paper.SIX_NAMES, tuple(lines), beside="chance")
    item = Item("nightly", "Each mechanism on phantoms, beside chance", (table,), NOTES)
    written = report.write(item, title_of("nightly", exams, budget, seed), out)
    if failed:
        raise TrainingError(f"not above chance: {'; '.join(failed)}; see {out / 'nightly.md'}")
    return written


def by_chance(outcomes: Sequence[Outcome]) -> list[float]:
    """The six figures of the same outputs, each counted against the truth of the next exam."""
    shifted = [
        replace(own, predicted=other.predicted, probabilities=other.probabilities)
        for own, other in zip(outcomes, [*outcomes[1:], outcomes[0]], strict=True)
    ]
    return [score.value for score in scores.six_scores(shifted)]
