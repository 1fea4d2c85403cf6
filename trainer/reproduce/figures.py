"""Figures 4, 6, 7, 8 and 9 of the paper."""

from __future__ import annotations

from spineone_core.anatomy import Grade, Structure
from spineone_core.network import rows
from spineone_core.network.rows import Row
from trainer.recipes import BEST_ROW
from trainer.reproduce import paper, plots, scores
from trainer.reproduce.examples import example_pictures
from trainer.reproduce.feature_maps import feature_maps
from trainer.reproduce.report import Figure, Item, Line, Table
from trainer.reproduce.scores import Score
from trainer.reproduce.trainings import Trainings, chosen
from trainer.training.run_folder import TrainingError

DISTANCES_MM = tuple(range(1, 11))
# The pair of Fig. 4: SpineOne, and the same without attention.
WITH_ATTENTION, WITHOUT_ATTENTION = BEST_ROW, "deeplabv3plus-resnet101-ocpc-oa"


def fig4(trainings: Trainings, title: str) -> Item:
    """The features of discs and vertebrae with and without attention."""
    heading = "Fig. 4: feature maps with (top) and without (bottom) attention"
    notes = [
        "Random channels of what the disc and the vertebra branch see behind the attention modules, on one test exam."
    ]
    pictures: dict[str, bytes] = {}
    if not plots.available():
        notes.append(plots.MISSING)
    else:
        try:
            pair = [trainings.package(rows.find_row(name)) for name in (WITH_ATTENTION, WITHOUT_ATTENTION)]
            pictures["features"] = feature_maps(pair, trainings.exams.test[0], trainings.seed, title)
        except TrainingError as error:
            notes.append(str(error))
    return Item("fig4", heading, (), tuple(notes), pictures)


def fig6(trainings: Trainings, title: str) -> Item:
    """How many keypoints of each class there are."""
    exams = [*trainings.exams.training, *trainings.exams.validation, *trainings.exams.test]
    counts: dict[str, int] = {}
    for structure, short in ((Structure.VERTEBRA, "Vert"), (Structure.DISC, "Disc")):
        grades = [grade for exam in exams for _, _, grade in exam.of(structure)]
        counts |= {f"{short}-{'N' if g is Grade.NORMAL else 'D'}": grades.count(g) for g in Grade}
    lines = [Line((name,), (Figure(None, Score(n, n, n)),)) for name, n in counts.items()]
    table = Table(("class",), ("keypoints",), tuple(lines), digits=0)
    notes = ["The paper draws its counts without printing them; it calls them mildly unbalanced."]
    pictures = {}
    if plots.available():
        pictures["plot"] = plots.bars(title, list(counts), list(counts.values()))
    else:
        notes.append(plots.MISSING)
    return Item("fig6", "Fig. 6: classes in the data", (table,), tuple(notes), pictures)


def fig7(trainings: Trainings, title: str, only: str = "") -> Item:
    """F1 over the number of slices."""
    lines, panels = [], {"discs": dict[str, dict[int, Score]](), "vertebrae": dict[str, dict[int, Score]]()}
    printed = {name: dict[str, dict[int, float]]() for name in panels}
    for _, row in chosen(rows.figure_seven(), only):
        backbone, slices = row.network.backbone, row.network.slices
        known = paper.FIGURE_SEVEN_F1.get((backbone, slices), (None, None))
        measured, why = _f1_scores(trainings, row)
        lines.append(
            Line((backbone, str(slices)), tuple(Figure(a, b) for a, b in zip(known, measured, strict=True)), why)
        )
        for panel, figure, value in zip(panels, known, measured, strict=True):
            if value is not None:
                panels[panel].setdefault(backbone, {})[slices] = value
            if figure is not None:
                printed[panel].setdefault(backbone, {})[slices] = figure
    notes = [
        "F1 as in Table I. The paper draws curves; of their points only those of seven slices stand in its Table III."
    ]
    pictures = {}
    if plots.available():
        pictures["plot"] = plots.curves(title, panels, "slices", "macro F1", printed)
    else:
        notes.append(plots.MISSING)
    table = Table(("DeepLabv3+", "slices"), ("disc F1", "vertebra F1"), tuple(lines))
    return Item("fig7", "Fig. 7: number of slices", (table,), tuple(notes), pictures)


def _f1_scores(trainings: Trainings, row: Row) -> tuple[tuple[Score | None, Score | None], str]:
    try:
        six = scores.six_scores(trainings.outcomes(row))
    except TrainingError as error:
        return (None, None), str(error)
    return (six[2], six[5]), ""


def fig8(trainings: Trainings, title: str, only: str = "") -> Item:
    """PCK from 1 to 10 mm."""
    lines, curves = [], dict[str, dict[int, Score]]()
    for name, known in paper.FIGURE_EIGHT.items():
        if only not in name:
            continue
        try:
            measured = scores.pck_scores(trainings.outcomes(rows.find_row(name)), DISTANCES_MM)
            curves[name] = dict(zip(DISTANCES_MM, measured, strict=True))
            figures = tuple(Figure(known.get(d), curves[name][d]) for d in DISTANCES_MM)
            lines.append(Line((name,), figures))
        except TrainingError as error:
            lines.append(Line((name,), tuple(Figure(known.get(d), None) for d in DISTANCES_MM), str(error)))
    notes = ["Level-free, discs and vertebrae together. Of the paper's curves the text gives four points."]
    pictures = {}
    if plots.available():
        panels, printed = {"all keypoints": curves}, {"all keypoints": paper.FIGURE_EIGHT}
        pictures["plot"] = plots.curves(title, panels, "distance (mm)", "PCK", printed)
    else:
        notes.append(plots.MISSING)
    table = Table(("detector",), tuple(f"PCK-{d}" for d in DISTANCES_MM), tuple(lines))
    return Item("fig8", "Fig. 8: PCK over the distance", (table,), tuple(notes), pictures)


def fig9(trainings: Trainings, title: str) -> Item:
    """Examples with their tables: three at random and the worst."""
    notes = [
        "Three exams at random and the one with the largest error; ours in red, truth in green (discs) and blue (vertebrae)."
    ]
    pictures: dict[str, bytes] = {}
    if not plots.available():
        notes.append(plots.MISSING)
    else:
        try:
            outcomes = trainings.outcomes(rows.find_row(BEST_ROW))
            pictures = example_pictures(trainings.exams.test, outcomes, trainings.seed, title)
        except TrainingError as error:
            notes.append(str(error))
    return Item("fig9", "Fig. 9: examples", (), tuple(notes), pictures)
