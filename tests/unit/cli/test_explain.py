"""`dicom-node explain`: one row for each series with what it was taken for, for a person and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dicom_node.cli.app import main
from tests.fakes.datasets import STUDY, mr_image, save


def run(*arguments: str) -> int:
    """Exit status of the command."""
    with pytest.raises(SystemExit) as ended:
        main(("explain", *arguments))
    return int(ended.value.code or 0)


def write(folder: Path, number: int, name: str, *, study: str = STUDY, slices: int = 7, **values: Any) -> None:
    for index in range(slices):
        image = mr_image(100 * number + index, study=study, series=f"{study}.{number}")
        image.SeriesNumber, image.SeriesDescription = number, name
        image.PatientName = "Doe^Jane"
        for keyword, value in values.items():
            setattr(image, keyword, value)
        save(image, folder / f"s{number}i{index}.dcm")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    write(folder, 2, "LWS T2 sag Doe^Jane", EchoTime="102", RepetitionTime="3500", ScanningSequence="SE")
    write(folder, 3, "SAG T2 Doe^Jane", EchoTime="15", RepetitionTime="500", ScanningSequence="GR")
    write(folder, 4, "STIR sag", BodyPartExamined="LSPINE", EchoTime="0.06")
    write(folder, 5, "颈椎 T2 矢状位")
    (folder / "readme.txt").write_text("no image")
    return folder


def test_explain__as_json(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(study), "--json") == 0
    output = capsys.readouterr().out
    (found,) = json.loads(output)["studies"]
    rows = {row["number"]: row for row in found["series"]}
    assert found["study_uid"] == STUDY
    assert rows[2]["outcome"] == "chosen: sagittal, T2 by description, 7 slices"
    assert (rows[2]["rank"], rows[2]["region"]) == (1, "lumbar spine by description")
    assert (rows[3]["rank"], rows[3]["contrast"]) == (None, "gradient echo by its sequence parameters")
    assert (rows[4]["rank"], rows[4]["contrast"]) == (2, "T2, fat-suppressed by description")
    assert rows[4]["region"] == "lumbar spine by BodyPartExamined"
    assert rows[4]["notes"] == ["impossible echo time not used"]
    assert rows[4]["outcome"].endswith("a series without fat suppression is preferred")
    assert rows[5]["region"] == "cervical spine by description"
    assert rows[5]["outcome"] == "not chosen: described as another region"
    assert json.loads(output)["no_images"] == [str(study / "readme.txt")]
    assert "doe" not in output.lower()


def test_explain__for_a_person(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(study)) == 0
    output = capsys.readouterr().out
    assert f"study {STUDY}: sagittal, T2 by description, 7 slices" in output
    assert f"no image: {study / 'readme.txt'}" in output
    for text in ("number", "plane", "contrast", "region", "rank", "outcome", "notes", "gradient echo by its"):
        assert text in output
    assert "doe" not in output.lower()


def test_explain__several_studies_and_a_refused_one(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(study / "other", 1, "T1 sag", study="1.2.826.0.1.3680043.10.2")
    assert run(str(study), "--json") == 0
    first, second = json.loads(capsys.readouterr().out)["studies"]
    assert first["reason"] is None
    assert (second["reason"], second["detail"]) == ("no_sagittal_t2", "1 series: 1 T1-weighted by description")


def test_explain__follows_the_settings(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "node.toml"
    config.write_text("[study]\nmin_slices = 8\n")
    assert run(str(study), "--json", "--config", str(config)) == 0
    (found,) = json.loads(capsys.readouterr().out)["studies"]
    assert found["reason"] == "too_few_slices"


def test_explain__without_an_image_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "readme.txt").write_text("no image")
    assert run(str(tmp_path)) == 1
    assert "no image among the files" in capsys.readouterr().err


def test_explain__a_path_that_is_not_there_is_bad_usage(tmp_path: Path) -> None:
    assert run(str(tmp_path / "nothing")) == 2
