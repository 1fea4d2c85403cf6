"""The catalogue makes what the settings ask for, in one order, as the table of kinds says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.analysis import products
from dicom_node.analysis.analyse import Analysis, analyse
from dicom_node.analysis.offline import find_studies
from dicom_node.analysis.products import CATALOGUE, History, RefusedByGateError
from dicom_node.results.kinds import OBJECT_KINDS, RESULT_KINDS
from dicom_node.results.report import build_report
from dicom_node.results.sr_document import Predecessor
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.sections import ResultsRules
from tests.fakes.datasets import STUDY, mr_image
from tests.fakes.detector import FakeDetector

CREATED = datetime(2026, 1, 5, 10, 0, 0, tzinfo=UTC)
EVERYTHING = {"presentation_state": True, "key_object": True, "slice_sheet": True, "table_page": True}
NOTHING = dict.fromkeys(("structured_report", "secondary_capture"), False)


def no_history(study_uid: str) -> Mapping[str, Predecessor]:
    return {}


def analysis_of(
    folder: Path,
    rules: Mapping[str, bool],
    *,
    series: str = "t2_tse_sag",
    history: History = no_history,
    zone: str = "",
) -> Analysis:
    for number in range(1, 4):
        image = mr_image(number)
        image.SeriesDescription = series
        if zone:
            image.TimezoneOffsetFromUTC = zone
        image.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    settings = NodeSettings(data_dir=folder, results=ResultsRules(**rules), study={"min_slices": 3})
    inputs = find_studies([folder]).studies[STUDY]
    return analyse(FakeDetector(), STUDY, inputs, settings, created=CREATED, history=history)


def test_catalogue__has_a_row_for_each_kind_in_its_order() -> None:
    assert tuple(row.kind for row in CATALOGUE) == RESULT_KINDS


def test_products__are_what_the_table_of_kinds_says(tmp_path: Path) -> None:
    analysis = analysis_of(tmp_path, EVERYTHING)
    made = {product.role: product for product in analysis.products}
    assert [(p.role, p.name) for p in analysis.products] == [(k.role, k.file_name) for k in RESULT_KINDS]
    for kind in OBJECT_KINDS:
        product = made.pop(kind.role)
        assert (product.sop_class_uid, product.sop_instance_uid) == (kind.sop_class, analysis.key.uid(kind.uid_name))
    assert {product.sop_class_uid for product in made.values()} == {""}


@pytest.mark.parametrize(("zone", "time"), [("", "100000"), ("+0530", "153000")])
def test_products__state_an_offset_from_utc_only_as_the_source_does(tmp_path: Path, zone: str, time: str) -> None:
    """It covers the times that are copied from the source too, so the node may not add one of its own."""
    made = [p for p in analysis_of(tmp_path, EVERYTHING, zone=zone).products if p.sop_class_uid]
    assert len(made) == len(OBJECT_KINDS)
    for product in made:
        dataset = pydicom.dcmread(BytesIO(product.data))
        assert dataset.get("TimezoneOffsetFromUTC", "") == zone, product.role
        assert dataset.InstanceCreationTime == time, product.role
        stated = [e for e in dataset.iterall() if e.keyword == "TimezoneOffsetFromUTC"]
        assert len(stated) == bool(zone), product.role


@pytest.mark.parametrize(
    ("rules", "roles"),
    [
        ({}, ["report", "report_2d", "overlay", "picture", "table"]),
        ({"table_page": False}, ["report", "report_2d", "overlay", "picture"]),
        ({"secondary_capture": False, "slice_sheet": True}, ["report", "report_2d"]),
        ({"structured_report": False}, ["overlay", "picture", "table"]),
        ({**NOTHING, "presentation_state": True}, ["presentation"]),
        ({**NOTHING, "key_object": True}, ["key_object"]),
        (NOTHING, []),
    ],
)
def test_products__the_settings_choose(tmp_path: Path, rules: dict[str, bool], roles: list[str]) -> None:
    assert [product.role for product in analysis_of(tmp_path, rules).products] == ["findings", *roles]


def test_products__a_refused_study_has_findings_and_reports(tmp_path: Path) -> None:
    analysis = analysis_of(tmp_path, EVERYTHING, series="t1")
    assert [product.role for product in analysis.products] == ["findings", "report", "report_2d"]


@pytest.mark.parametrize(("wanted", "asked"), [(True, 1), (False, 0)])
def test_products__the_history_is_asked_once_and_only_for_reports(tmp_path: Path, wanted: bool, asked: int) -> None:
    studies: list[str] = []

    def history(study_uid: str) -> Mapping[str, Predecessor]:
        studies.append(study_uid)
        return {}

    analysis_of(tmp_path, {"structured_report": wanted}, history=history)
    assert studies == [STUDY] * asked


def test_products__what_the_gate_refuses_ends_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products.check, "check", lambda dataset: ["first", "second"])
    with pytest.raises(RefusedByGateError, match="report: first; second"):
        analysis_of(tmp_path, {})


def test_products__of_another_patient_than_the_source_end_it_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever changes an object between its making and its sending."""

    def mistaken(**options: Any) -> Dataset:
        made = build_report(**options)
        made.PatientID = "ANOTHER"
        return made

    monkeypatch.setattr(products, "build_report", mistaken)
    with pytest.raises(RefusedByGateError, match="report: PatientID: differs from the source") as error:
        analysis_of(tmp_path, {})
    assert "ANOTHER" not in str(error.value)
