"""``spineone-train grades``: the grading networks, cross-validated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from spineone_core import strict_json
from spineone_core.anatomy import Structure
from spineone_core.detection.model_package import ModelPackage, load_package, save_package
from spineone_core.network.grading import GradingEnsemble
from trainer.cli.arguments import (
    DataOption,
    SplitsOption,
    UsageError,
    check_bootstrap,
    console,
    counted,
    stream_exams,
    with_centroids,
)
from trainer.datasets.exam import Exam
from trainer.datasets.gradings import read_gradings
from trainer.datasets.splits import SplitError, read_splits
from trainer.evaluation.grades import BANDS
from trainer.evaluation.grades_document import render_grades
from trainer.evaluation.grades_report import CrossValidated, calibrations_of, structure_report
from trainer.evaluation.located import LocatedExam, locate_exam
from trainer.recipes import GRADING_RECIPES, find_grading_recipes
from trainer.samples.graded import GradedExam, graded_exam
from trainer.training.cross_validation import cross_validate, fold_of, last_grades, load_members

TEST = "test"


def grades(
    out: Annotated[Path, typer.Option(help="folder of the networks, grades.md and grades.json")],
    gradings: Annotated[Path, typer.Option(help="CSV with Pfirrmann grades and signs by exam")],
    data: DataOption,
    splits: SplitsOption = None,
    model: Annotated[
        str, typer.Option(help='detector that finds the levels: package folder, or "default"')
    ] = "default",
    recipe: Annotated[str, typer.Option(help=", ".join(GRADING_RECIPES))] = "grades",
    structure: Annotated[str, typer.Option(help="disc, vertebra, or all")] = "all",
    folds: Annotated[int, typer.Option(min=2, help="parts of the patients")] = 5,
    epochs: Annotated[int | None, typer.Option(min=1, help="instead of the recipe's")] = None,
    every: Annotated[int, typer.Option(min=0, help="epochs between looks at the log loss; 0: only at the end")] = 4,
    band: Annotated[str, typer.Option(help=", ".join(BANDS))] = "decided",
    error_rate: Annotated[
        float | None, typer.Option(help="share of errors that the undecided bands allow, instead of the recipe's")
    ] = None,
    bootstrap: Annotated[int, typer.Option(help="samples for intervals; 0 for none")] = 1000,
    seed: int = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads")] = None,
) -> None:
    """Train the grading networks of every fold and measure them, each on patients that it has not seen.

    No patient of the test part is read. Networks learn from the exams of all --data; measured is the first exam of each
    patient in the first --data. A run that was killed goes on with the next fold. At the end OUT/package is the --model
    with the mean of all folds' networks and their calibration.
    """
    wanted = _structures(structure)
    check_bootstrap(bootstrap)
    if band not in BANDS or not 0 < (0.1 if error_rate is None else error_rate) < 0.5:
        raise UsageError(f"--band {band}, --error-rate {error_rate}: allowed are {', '.join(BANDS)}; 0 to 0.5")
    try:
        recipes = find_grading_recipes(recipe, epochs)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if threads:
        torch.set_num_threads(threads)
    package = load_package(model)
    training, located = _read(data, splits, gradings, package, next(iter(recipes.values())).network.spacing_mm)
    part = fold_of((exam.exam.patient for exam in training), folds, seed)
    content: dict[str, Any] = {"recipe": recipe, "folds": folds, "seed": seed, "band": band}
    content |= {"detector": package.identity.to_json(), "structures": {}}
    calibration = dict(package.manifest.calibration)
    ensembles: dict[Structure, GradingEnsemble] = {}
    for kind in wanted:
        learned = recipes[kind]
        begin = None if learned.begin_with is None else out / learned.begin_with.value
        by_epoch = cross_validate(
            training, located, learned, out / kind.value, folds=folds, begin=begin, every=every, seed=seed, log=_log
        )
        discs = None if begin is None else last_grades(begin, folds)
        found = CrossValidated(located=located, by_epoch=by_epoch, config=learned.network, folds=part, discs=discs)
        rate = learned.error_rate if error_rate is None else error_rate
        report = structure_report(found, error_rate=rate, band=band, samples=bootstrap)
        members = load_members(out / kind.value, learned.network, folds)
        ensembles[kind] = GradingEnsemble(replace(learned.network, members=folds), members)
        calibration |= calibrations_of(found, error_rate=rate, band=band)
        content["structures"][kind.value] = {
            "class_from": learned.network.class_from,
            "error_rate": rate,
            "training": learned.to_json(),
            **report,
        }
    (out / "grades.json").write_text(strict_json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "grades.md").write_text(render_grades(content) + "\n", encoding="utf-8")
    manifest = replace(package.manifest, calibration=calibration)
    identity = save_package(
        out / "package", package.network, manifest, domain=package.domain, grading={**package.grading, **ensembles}
    )
    _log(f"written: {out / 'grades.md'}; {out / 'package'}, digest {identity.digest}")


def _log(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def _structures(name: str) -> list[Structure]:
    if name == "all":
        return list(Structure)
    if name not in [kind.value for kind in Structure]:
        raise UsageError(f"--structure {name}: allowed are all, {', '.join(kind.value for kind in Structure)}")
    return [Structure(name)]


def _read(
    data: list[str], splits: Path | None, table: Path, package: ModelPackage, spacing_mm: float
) -> tuple[list[GradedExam], list[LocatedExam]]:
    """All exams with gradings to learn from, and the first exam of each patient in the first source, located."""
    known = read_gradings(table)
    training: list[GradedExam] = []
    located: dict[str, LocatedExam] = {}
    for number, source in enumerate(data):
        for exam in counted(with_centroids(_not_of_test(source, splits)), "prepared"):
            graded = known.get(exam.volume.study_uid)
            if graded is None:
                _log(f"left out: {exam.exam_id}: no row in {table}")
                continue
            training.append(graded_exam(exam, graded, spacing_mm))
            if not number and exam.patient not in located:
                located[exam.patient] = locate_exam(exam, graded, package)
    if not located:
        raise UsageError(f"{table}: no row for any exam of {data[0] if data else 'no --data'}")
    return training, list(located.values())


def _not_of_test(source: str, splits: Path | None) -> Iterator[Exam]:
    """The exams of all parts but the test part; all exams without a split."""
    part_of = None if splits is None else read_splits(splits)
    for exam in stream_exams([source]):
        if part_of is None:
            yield exam
        elif exam.patient not in part_of:
            raise SplitError(f"exam {exam.exam_id}: its patient stands in no part of the split file")
        elif part_of[exam.patient] != TEST:
            yield exam
