"""Tables and figures of the paper: figures, intervals, titles, and trainings that are done once."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spineone_core.anatomy import READING_ORDER, Grade, Structure
from spineone_core.backbones.resnet import ResNet
from spineone_core.detection.decoding import decode
from spineone_core.detection.preprocessing import prepare
from spineone_core.findings import NotAnalysable
from spineone_core.network import rows
from trainer.cli import app
from trainer.cli.arguments import UsageError
from trainer.datasets import phantoms
from trainer.datasets.exam import Exam
from trainer.evaluation import metrics
from trainer.evaluation.bootstrap import bootstrap_interval
from trainer.evaluation.outcomes import Outcome
from trainer.recipes import paper_row
from trainer.reproduce import figures, outcome_file, paper, plots, report, scores, tables
from trainer.reproduce import nightly as nightly_form
from trainer.reproduce.budget import Budget
from trainer.reproduce.exams import ExamSet, phantom_set, split_by_seed
from trainer.reproduce.report import Figure, Item, Line, Table
from trainer.reproduce.reproduction import ITEMS, reproduce, title_of
from trainer.reproduce.scores import Score
from trainer.reproduce.trainings import Trainings
from trainer.training.options import RunOptions
from trainer.training.run import Run
from trainer.training.run_folder import TrainingError

CPU, CPU_DEVICE = RunOptions(device="cpu"), torch.device("cpu")
CHEAP = rows.find_row("deeplabv3plus-resnet50-ocpc")


@pytest.fixture(scope="module")
def exams() -> ExamSet:
    return phantom_set(training=2, test=2, slices=1)


def random_outcomes(count: int) -> list[Outcome]:
    """Three exams a patient; errors around 6 mm, classes right in 70 %, one refusal, one level not annotated."""
    rng = np.random.default_rng(0)
    outcomes = []
    for n in range(count):
        truth = np.column_stack([np.zeros(10), 18.0 * np.arange(10)])
        grades = tuple(Grade.DEGENERATIVE if g else Grade.NORMAL for g in rng.random(10) < 0.5)
        right = rng.random(10) < 0.7
        said = np.array([0.9 if (g is Grade.DEGENERATIVE) == r else 0.1 for g, r in zip(grades, right, strict=True)])
        found = truth + rng.normal(0, 4, truth.shape)
        outcomes.append(Outcome(f"e{n}", f"p{n // 3}", truth, grades, found, said))
    outcomes[1] = replace(outcomes[1], predicted=None, probabilities=None)
    truth = outcomes[2].truth.copy()
    truth[4] = np.nan
    outcomes[2] = replace(outcomes[2], truth=truth, grades=(*outcomes[2].grades[:4], None, *outcomes[2].grades[5:]))
    return outcomes


# ---------------------------------------------------------------- the paper's figures and protocol


def test_paper__has_figures_for_every_row() -> None:
    assert len(paper.TABLE_ONE) == len(rows.table_one())
    assert len(paper.TABLE_THREE) == len(rows.table_three())
    assert len(paper.TABLE_FOUR) == len(rows.table_four())


def test_paper__rows_that_tables_share_have_one_figure() -> None:
    """A slip of transcription would break this."""
    printed: dict[str, set[tuple[float, ...]]] = {}
    for named, values in (
        (rows.table_one(), paper.TABLE_ONE),
        (rows.table_three(), paper.TABLE_THREE),
        (rows.table_four(), paper.TABLE_FOUR),
    ):
        for row, six in zip(named, values, strict=True):
            printed.setdefault(row.digest, set()).add(six)
    assert all(len(figures) == 1 for figures in printed.values())
    for six in (*paper.TABLE_ONE, *paper.TABLE_THREE, *paper.TABLE_FOUR):
        for recall, precision, f1 in (six[:3], six[3:]):
            assert f1 == pytest.approx(2 * recall * precision / (recall + precision), abs=0.0025)


def test_budget__without_departures_is_the_papers_recipe() -> None:
    assert Budget().departures() == []
    for row in rows.distinct_rows():
        assert Budget().recipe(row, 400) == paper_row(row)
    title = title_of("table1", replace_counts(400, 150), Budget(), 0)
    assert title == "SDID-TC, 400 training and 150 test exams, 300 epochs, seed 0"


def replace_counts(training: int, test: int) -> ExamSet:
    exam = next(iter(phantoms.read(range(1), slices=1)))
    return ExamSet("SDID-TC", [exam] * training, [], [exam] * test)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"epochs": 5}, "5 epochs instead of 300"),
        ({"subset": 9}, "at most 9 exams"),
        ({"width": 16}, "width 16 instead of 64"),
        ({"spacing_mm": 1.0}, "pixels of 1 mm"),
        ({"batch": 8}, "batch 8"),
        ({"learning_rate": 0.001}, "learning rate 0.001"),
        ({"preset": "stable"}, "preset stable"),
        ({"association_from": 0.5}, "from 50%"),
    ],
)
def test_title__says_every_departure_from_the_protocol(change: dict[str, object], word: str) -> None:
    title = title_of("table3", replace_counts(400, 150), Budget(**change), 7, "resnet50")
    assert "SHORTENED" in title
    assert word in title
    assert "seed 7" in title
    assert "rows with 'resnet50' alone" in title
    assert "3 training exams instead of 400" in title_of("fig8", replace_counts(3, 1), Budget(), 0)


def test_budget__covers_the_same_millimetres_with_coarser_pixels() -> None:
    recipe = Budget(spacing_mm=0.875, width=32).recipe(CHEAP, 100)
    assert (recipe.augmentation.canvas, recipe.augmentation.size, recipe.decoding.radius_px) == (320, (256, 256), 3.0)
    assert (recipe.network.width, recipe.network.feature_channels) == (32, 32)
    with pytest.raises(ValueError, match="width 128"):
        Budget(width=128)
    with pytest.raises(ValueError, match="paper, stable"):
        Budget(preset="other")


def test_split__is_400_to_150_by_seed_and_keeps_patients_whole() -> None:
    exam = next(iter(phantoms.read(range(1), slices=1)))
    many = [replace(exam, exam_id=f"e{n}", patient=f"p{n}") for n in range(550)]
    training, test = split_by_seed(many, 3)
    assert (len(training), len(test)) == (400, 150)
    assert ids(split_by_seed(many, 3)[0]) == ids(training) != ids(split_by_seed(many, 4)[0])
    twice = [replace(exam, exam_id=f"e{n}", patient=f"p{n // 2}") for n in range(110)]
    training, test = split_by_seed(twice, 0)
    assert len(training) == 80
    assert not {e.patient for e in training} & {e.patient for e in test}


def ids(exams: list[Exam]) -> list[str]:
    return [exam.exam_id for exam in exams]


# ---------------------------------------------------------------- figures and intervals


def test_scores__are_the_metrics_definitions() -> None:
    outcomes = random_outcomes(12)
    measured = scores.six_scores(outcomes)
    for place, structure in enumerate((Structure.DISC, Structure.VERTEBRA)):
        wanted = metrics.definitions(outcomes, structure)
        names = ("paper_macro_recall", "paper_macro_precision", "paper_macro_f1")
        assert [s.value for s in measured[3 * place : 3 * place + 3]] == pytest.approx([wanted[name] for name in names])
    assert scores.micro_precision(outcomes).value == pytest.approx(metrics.micro_precision(outcomes))
    curve = metrics.pck_curve(outcomes, (3, 6))
    assert [s.value for s in scores.pck_scores(outcomes, (3, 6))] == pytest.approx(list(curve.values()))


def test_scores__intervals_are_the_bootstraps_by_patient() -> None:
    outcomes = random_outcomes(30)
    fast = scores.pck_scores(outcomes, (6,))[0]
    low, high, _ = bootstrap_interval(outcomes, metrics.pck)
    assert (fast.low, fast.high) == pytest.approx((low, high), abs=0.02)
    assert fast.low < fast.value < fast.high
    one = [replace(outcome, patient="same") for outcome in outcomes]
    alone = scores.pck_scores(one, (6,))[0]
    assert alone.low == pytest.approx(alone.value) == pytest.approx(alone.high)


def test_outcomes__come_back_from_their_file_without_patient_ids(tmp_path: Path) -> None:
    outcomes = [replace(o, patient=f"SECRET-{o.patient}") for o in random_outcomes(6)]
    outcome_file.write(tmp_path / "outcomes.json", outcomes)
    assert "SECRET" not in (tmp_path / "outcomes.json").read_text()
    back = outcome_file.read(tmp_path / "outcomes.json")
    for structure in Structure:
        assert metrics.definitions(back, structure) == metrics.definitions(outcomes, structure)
    assert metrics.pck_curve(back) == metrics.pck_curve(outcomes)
    assert len({o.patient for o in back}) == len({o.patient for o in outcomes})


# ---------------------------------------------------------------- files


def test_report__title_figure_difference_and_interval_stand_in_all_three_files(tmp_path: Path) -> None:
    lines = (
        Line(("a", "✓"), (Figure(0.8, Score(0.75, 0.7, 0.81)), Figure(None, None))),
        Line(("b", ""), (Figure(0.9, None), Figure(None, Score(0.5, 0.4, 0.6))), "did not end <why>"),
    )
    item = Item("table9", "Table IX", (Table(("row", "mark"), ("F1", "recall"), lines),), ("a note",), {"plot": b"png"})
    files = report.write(item, "phantoms, 2 epochs. SHORTENED: x", tmp_path)
    assert {path.name for path in files} == {"table9.md", "table9.csv", "table9.html", "table9-plot.png"}
    texts = {path.suffix: path.read_text() for path in files if path.suffix != ".png"}
    assert all("phantoms, 2 epochs. SHORTENED: x" in text for text in texts.values())
    assert "| a | ✓ | 0.800 → 0.750 (-0.050) [0.700, 0.810] | – → – |" in texts[".md"]
    assert "did not end &lt;why&gt;" in texts[".html"]
    table = list(csv.reader(texts[".csv"].splitlines()[1:]))
    assert table[1] == ["table9", "a ✓", "F1", "0.80000", "0.75000", "-0.05000", "0.70000", "0.81000", ""]
    assert table[3][3:] == ["0.90000", "", "", "", "", "did not end <why>"]


def test_report__table1_fits_its_page_and_fig6s_label_its_frame(tmp_path: Path) -> None:
    """A column for each label and figure: 24 columns of numbers do not fit a page."""
    figures_of_row = tuple(Figure(0.8, Score(0.75, 0.7, 0.81)) for _ in paper.SIX_NAMES)
    item = Item("table1", "Table I", (Table(("detector",), paper.SIX_NAMES, (Line(("a",), figures_of_row),)),))
    text = report.as_html(item, "title")
    assert text.count("<th") == text.count("<td") == 7
    assert '<span class="quiet">0.800</span> → 0.750<small>-0.050 [0.700, 0.810]</small>' in text
    pytest.importorskip("matplotlib")
    drawn = plots.bar_figure(["Vert-N", "Disc-D"], [30, 400])
    drawn.canvas.draw()
    axes = drawn.axes[0]
    frame = axes.get_window_extent()
    assert all(label.get_window_extent().y1 < frame.y1 for label in axes.texts)


# ---------------------------------------------------------------- the nightly form


def test_nightly__each_mechanisms_cells_stand_beside_chance(exams: ExamSet, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(nightly_form, "phantom_set", lambda **options: exams)
    good = [
        spread_out(outcome, 40.0 * n) for n, outcome in enumerate(random_outcomes(8)) if outcome.predicted is not None
    ]
    assert all(chance == 0 for chance in nightly_form.by_chance(good))
    monkeypatch.setattr(Trainings, "outcomes", lambda self, row: good)
    written = nightly_form.nightly(tmp_path, CPU, mechanisms=["OCPC", "everything"])
    assert {path.name for path in written} == {"nightly.md", "nightly.csv", "nightly.html"}
    assert "disc F1: chance → ours" in (tmp_path / "nightly.md").read_text()
    lost = [replace(outcome, predicted=np.full((10, 2), np.nan)) for outcome in good]
    monkeypatch.setattr(Trainings, "outcomes", lambda self, row: lost if "oa" in row.name else good)
    with pytest.raises(TrainingError, match=r"not above chance: objective association: disc F1 0.000 \(chance 0.000\)"):
        nightly_form.nightly(tmp_path, CPU, mechanisms=["OCPC", "objective association"])


def spread_out(outcome: Outcome, mm: float) -> Outcome:
    """The exam moved sideways, so that no other exam's outputs lie on its keypoints."""
    assert outcome.predicted is not None
    aside = np.array([mm, 0.0])
    return replace(outcome, truth=outcome.truth + aside, predicted=outcome.predicted + aside)


def test_nightly__has_a_row_for_each_mechanism() -> None:
    assert all(rows.find_row(name) for name in nightly_form.MECHANISMS.values())
    assert {"conventional heatmap", "OCPC", "position attention", "channel attention", "objective association"} < set(
        nightly_form.MECHANISMS
    )


# ---------------------------------------------------------------- trainings


def test_trainings__each_is_done_once_and_shared_by_its_rows(exams: ExamSet, tmp_path: Path, monkeypatch) -> None:
    trainings = Trainings(exams, Budget.smoke(), 0, tmp_path, CPU)
    first = trainings.outcomes(CHEAP)
    assert [o.exam_id for o in first] == [e.exam_id for e in exams.test]
    assert all(o.predicted is not None for o in first)  # hardly trained, so the node would refuse them all
    package = trainings.package(CHEAP)
    prepared = prepare(exams.test[0].volume, package.manifest.preprocessing)
    with pytest.raises(NotAnalysable):
        decode(package.network, prepared, package.manifest, CPU_DEVICE)
    (folder,) = tmp_path.iterdir()
    assert {"config.json", "log.jsonl", "last.pt", "best", "outcomes.json"} <= {p.name for p in folder.iterdir()}

    def never(run: Run, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Run, "fit", never)
    same = rows.find_row("deeplabv3plus-resnet50-ocpc-slices7")
    assert same.digest == CHEAP.digest
    again = Trainings(exams, Budget.smoke(), 0, tmp_path, CPU)
    assert metrics.pck_curve(again.outcomes(same)) == metrics.pck_curve(first)
    others = [
        Trainings(exams, Budget.smoke(), 1, tmp_path, CPU),
        Trainings(exams, replace(Budget.smoke(), epochs=3), 0, tmp_path, CPU),
        Trainings(phantom_set(training=1, test=2, slices=1), Budget.smoke(), 0, tmp_path, CPU),
    ]
    assert len({t.place(CHEAP) for t in (trainings, *others)}) == 4


def test_trainings__broken_off_go_on(exams: ExamSet, tmp_path: Path) -> None:
    trainings = Trainings(exams, Budget.smoke(), 0, tmp_path, CPU)
    saved = []

    def killed(run: Run, **options: object) -> None:
        run.open_folder(resume=True)
        run.train_step(run.batches())
        run.save()
        saved.append(run.step)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "fit", killed)
        with pytest.raises(KeyboardInterrupt):
            trainings.outcomes(CHEAP)
    trainings.outcomes(CHEAP)
    log = (trainings.place(CHEAP) / "log.jsonl").read_text()
    assert saved == [1]
    assert log.count('"loss"') == 1  # of the second epoch alone


def test_trainings__one_that_fails_is_said_and_the_others_go_on(exams: ExamSet, tmp_path: Path, monkeypatch) -> None:
    tried: list[str] = []

    def diverges(run: Run, **options: object) -> None:
        tried.append(run.schedule.name)
        raise TrainingError("the loss is not finite at step 3")

    monkeypatch.setattr(Run, "fit", diverges)
    with pytest.raises(TrainingError, match=r"1 trainings did not end .*not finite at step 3.* all else is written"):
        reproduce(["table4", "fig6"], exams, Budget.smoke(), 0, tmp_path, CPU, only="resnet50-ocpc-no")
    assert tried == ["stable/deeplabv3plus-resnet50-ocpc-no-offset"]
    assert "0.824 → – the loss is not finite at step 3" in (tmp_path / "table4.md").read_text()
    assert (tmp_path / "fig6.md").exists()


def test_backbone__goes_to_every_row_that_it_fits_and_is_part_of_the_training(exams: ExamSet, tmp_path: Path) -> None:
    """Whether the paper began with ImageNet weights is not stated; ``--backbone`` does, and the title says so."""
    network = Budget.smoke().recipe(CHEAP, 2).network
    torch.manual_seed(5)
    trunk = ResNet("resnet50", in_channels=3, width=network.width)
    file = tmp_path / "resnet50.pth"
    torch.save({**trunk.state_dict(), "fc.weight": torch.zeros(1000, 4)}, file)
    without = Trainings(exams, Budget.smoke(), 0, tmp_path / "runs", CPU)
    trainings = replace(without, backbones=(file,))
    other = rows.find_row("spineone-densenet121-fpn")
    assert trainings.place(CHEAP) != without.place(CHEAP)
    assert trainings.place(other) == without.place(other)
    begun: list[tuple[str, object]] = []

    def see(run: Run, **options: object) -> None:
        begun.append((run.schedule.name, run.options.backbone))
        assert torch.equal(run.network.backbone.trunk.layer1[0].conv1.weight, trunk.layer1[0].conv1.weight)
        raise TrainingError("seen")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "fit", see)
        with pytest.raises(TrainingError, match="seen"):
            trainings.outcomes(CHEAP)
    assert begun == [("stable/deeplabv3plus-resnet50-ocpc", file)]
    title = title_of("table1", exams, Budget.smoke(), 0, backbones=[file])
    assert "first weights where they fit: resnet50.pth" in title
    failed = CliRunner().invoke(app.app, ["reproduce", "fig6", "--smoke", "--backbone", str(wrong_file(tmp_path))])
    assert "fits the trunk of no detector at --width 8" in str(failed.exception)


def wrong_file(folder: Path) -> Path:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, folder / "other.pth")
    return folder / "other.pth"


# ---------------------------------------------------------------- Table II


def with_codes(exam: Exam, codes: str) -> Exam:
    """All discs carry the codes and are degenerative, vertebrae are normal."""
    raw = {landmark.level: codes if landmark.structure is Structure.DISC else "v1" for landmark in READING_ORDER}
    grades = {level: Grade.NORMAL if kind == "v1" else Grade.DEGENERATIVE for level, kind in raw.items()}
    return replace(exam, raw=raw, grades=grades)


def test_table2__prints_two_classes_as_categories_not_stated_and_seven_where_there_are_codes(
    exams: ExamSet, tmp_path: Path, monkeypatch
) -> None:
    coded = replace(exams, training=[with_codes(exam, "v2,v3") for exam in exams.training], _digests={})
    asked: list[str] = []

    def fails(self: Trainings, row: rows.Row) -> list[Outcome]:
        asked.append(row.name)
        raise TrainingError("not trained here")

    monkeypatch.setattr(Trainings, "outcomes", fails)
    monkeypatch.setattr(Trainings, "package", fails)
    for data, wanted in ((exams, False), (coded, True)):
        asked.clear()
        lines = tables.table2(Trainings(data, Budget.smoke(), 0, tmp_path, CPU)).tables[0].lines
        assert [line.labels[0] for line in lines[-2:]] == [
            "SpineOne, two classes (categories not stated)",
            "SpineOne, seven categories",
        ]
        assert (rows.seven_categories().name in asked) is wanted
        assert wanted or lines[-1].why == "the training exams have no codes v1 to v5"


def test_table5__says_that_the_others_are_identification_rates(exams: ExamSet, tmp_path: Path) -> None:
    item = tables.table5(Trainings(replace(exams, scans=None), Budget.smoke(), 0, tmp_path, CPU))
    assert all(line.labels[0].endswith("(identification rate)") for line in item.tables[0].lines[:-1])
    assert any("identification rates as far as known" in note for note in item.notes)


# ---------------------------------------------------------------- the command


def test_command__smoke_writes_tables_curves_pictures_and_an_index(tmp_path: Path) -> None:
    """One row of Table IV, Fig. 6 and Table V; `make reproduce-smoke` does all of it."""
    arguments = ["reproduce", "table4", "fig6", "table5", "--smoke", "--rows", "resnet50-ocpc-no", "--device", "cpu"]
    done = CliRunner().invoke(app.app, [*arguments, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for name in ("table4", "fig6", "table5"):
        for ending in ("md", "csv", "html"):
            text = (tmp_path / f"{name}.{ending}").read_text()
            assert "SHORTENED" in text
            assert "phantoms" in text
        assert f"({name}.md)" in (tmp_path / "index.md").read_text()
    lines = list(csv.DictReader((tmp_path / "table4.csv").read_text().splitlines()[1:]))
    assert [line["figure"] for line in lines] == list(paper.SIX_NAMES)
    assert all(0 <= float(line["low"]) <= float(line["ours"]) <= float(line["high"]) <= 1 for line in lines)
    assert (tmp_path / "fig6-plot.png").read_bytes().startswith(b"\x89PNG")
    counts = re.findall(r"\| (\S+) \| – → (\d+)", (tmp_path / "fig6.md").read_text())
    assert sum(int(count) for _, count in counts) == 70
    assert "0.9455 → " in (tmp_path / "table5.md").read_text()


def test_items__are_the_papers() -> None:
    assert set(ITEMS) == {f"table{n}" for n in range(1, 6)} | {f"fig{n}" for n in (4, 6, 7, 8, 9)}
    assert all(callable(getattr(tables if name.startswith("table") else figures, name)) for name in ITEMS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table6", "--smoke"], "unknown table6; allowed: all, table1"),
        (["table1"], "give --data, or --smoke"),
        (["table1", "--epochs", "0"], "epochs 0"),
        (["table1", "--preset", "mine"], "paper, stable"),
    ],
)
def test_command__says_what_is_wrong(arguments: list[str], message: str) -> None:
    failed = CliRunner().invoke(app.app, ["reproduce", *arguments])
    assert isinstance(failed.exception, UsageError)
    assert message in str(failed.exception)
