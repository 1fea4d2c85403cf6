"""Studies that are only kept, results that stay on the node, and what each destination gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.analysis.by_hand import analyse_by_hand
from dicom_node.analysis.study_rules import rule_that_fits
from dicom_node.database.connection import Database
from dicom_node.database.tables import Job, OutboxRow, ResultFile, ResultRow
from dicom_node.errors import NodeError
from dicom_node.health import overview, studies
from dicom_node.health.studies import Criteria
from dicom_node.settings.node import NodeSettings
from dicom_node.settings.study_rules import StudyRule
from dicom_node.system.clock import utc_now
from tests.fakes.datasets import STUDY, mr_image
from tests.fakes.still_node import DESTINATION, StillNode

BRAINS = {"name": "brains", "action": "keep", "description": "brain|head"}


def exam(series: str = "t2_tse_sag", **values: str) -> list[Dataset]:
    images = [mr_image(number) for number in range(1, 6)]
    for image in images:
        image.SeriesDescription = series
        for keyword, value in values.items():
            setattr(image, keyword, value)
    return images


def header(**values: Any) -> Dataset:
    dataset = Dataset()
    dataset.Rows = 8
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def node_with(database: Database, settings: NodeSettings, **changes: Any) -> StillNode:
    values = {**settings.model_dump(), "destinations": [DESTINATION], **changes}
    return StillNode(database, NodeSettings(**values))


def fitting(rules: Sequence[dict[str, str]], *series: Dataset) -> str | None:
    rule = rule_that_fits([StudyRule(**rule) for rule in rules], series)  # type: ignore[arg-type]
    return rule.name if rule is not None else None


KNEE = {"name": "knees", "action": "keep", "body_part": "^knee$"}
LUMBAR = {"name": "lumbar", "action": "analyse", "description": "lumbar|lws"}
REST = {"name": "rest", "action": "keep", "description": ".*"}


@pytest.mark.parametrize(
    ("rules", "series", "name"),
    [
        ([BRAINS], [header(StudyDescription="MRI Brain")], "brains"),
        ([BRAINS], [header(StudyDescription="LUMBAR SPINE")], None),
        ([BRAINS], [header()], None),
        ([KNEE], [header(BodyPartExamined="KNEE"), header(BodyPartExamined="KNEE")], "knees"),
        # In doubt a study is analysed.
        ([KNEE], [header(BodyPartExamined="KNEE"), header(BodyPartExamined="LSPINE")], None),
        ([KNEE], [header(BodyPartExamined="KNEE"), header()], None),
        ([LUMBAR, REST], [header(StudyDescription="HWS"), header(StudyDescription="LWS")], "lumbar"),
        ([LUMBAR, REST], [header(StudyDescription="HWS")], "rest"),
        ([{"name": "ct", "action": "keep", "modality": "^ct$"}], [header(Modality="CT"), Dataset()], "ct"),
        ([{"name": "ct", "action": "keep", "modality": "ct", "body_part": "abd"}], [header(Modality="CT")], None),
        # A description that is longer than the standard allows does not keep a worker busy.
        ([{"name": "end", "action": "keep", "description": "x$"}], [header(StudyDescription="a" * 64 + "x")], None),
        ([REST], [], None),
    ],
)  # fmt: skip
def test_rule_that_fits(rules: list[dict[str, str]], series: list[Dataset], name: str | None) -> None:
    assert fitting(rules, *series) == name


def test_a_kept_study__shows_its_rule_and_sends_nothing(database: Database, node_settings: NodeSettings) -> None:
    node = node_with(database, node_settings, rules=[BRAINS])
    node.receive(*exam(StudyDescription="Brain"))
    job = node.work()
    assert (job.state, job.outcome, job.result_id) == ("done", "kept", None)
    assert (node.counted, node.alerts()) == ([], {})
    with database.read() as session:
        (study,) = overview.status(session, node.settings)["studies"]
        assert (study["state"], study["reason"]) == ("kept", "kept, not analysed: rule 'brains'")
        assert overview.status(session, node.settings)["studies_by_state"]["kept"] == 1
        assert studies.find(session, Criteria(state="kept"), limit=1)[1] == 1
        assert not session.scalars(select(OutboxRow)).all()


def test_a_kept_study__is_analysed_by_hand_now_and_later(database: Database, node_settings: NodeSettings) -> None:
    node = node_with(database, node_settings, rules=[BRAINS])
    node.receive(*exam(StudyDescription="Brain"))
    node.work()
    with database.write() as session:
        assert analyse_by_hand(session, STUDY, now=utc_now()) == 2
    assert (node.work().outcome, len(node.reports())) == ("analysed", 1)
    node.receive(*exam(StudyDescription="Brain", AccessionNumber="A-2"))
    assert node.work().cause == "new_accession"
    with database.read() as session:
        assert [job.cause for job in session.scalars(select(Job).order_by(Job.id))] == [
            None,
            "by_hand",
            "new_accession",
        ]


def test_by_hand__what_cannot_be(database: Database, node_settings: NodeSettings) -> None:
    node = node_with(database, node_settings)
    with pytest.raises(NodeError, match=r"there is no study 1\.2"), database.write() as session:
        analyse_by_hand(session, "1.2", now=utc_now())
    node.receive(*exam())
    with database.write() as session:
        assert analyse_by_hand(session, STUDY, now=utc_now()) is None


@pytest.mark.parametrize(
    ("results", "sent"),
    [
        ({}, 1),
        ({"not_analysable": "keep"}, 0),
        ({"not_analysable_except": ["no_sagittal_t2"]}, 0),
        ({"not_analysable_except": ["not_lumbar"]}, 1),
        ({"not_analysable": "keep", "not_analysable_except": ["no_sagittal_t2"]}, 1),
        ({"not_analysable": "keep", "not_analysable_except": ["not_lumbar"]}, 0),
    ],
)
def test_not_analysable__is_sent_or_kept_by_reason(
    database: Database, node_settings: NodeSettings, results: dict[str, Any], sent: int
) -> None:
    node = node_with(database, node_settings, results=results)
    node.receive(*exam("t1_tse_sag"))
    assert node.work().outcome == "not_analysable"
    with database.read() as session:
        assert len(session.scalars(select(OutboxRow)).all()) == sent
        assert session.scalars(select(ResultRow)).one().is_withheld == (not sent)
    assert '"reason": "no_sagittal_t2"' in node.findings()


def test_a_report_that_was_kept__is_no_predecessor_of_one_that_is_sent(
    database: Database, node_settings: NodeSettings
) -> None:
    node = node_with(database, node_settings, results={"not_analysable": "keep"})
    node.receive(*exam("t1_tse_sag"))
    node.work()
    node.receive(*exam())
    assert node.work().cause == "changed_series"
    assert "PredecessorDocumentsSequence" not in node.reports()[-1]


def test_destinations__get_the_kinds_that_they_are_to_get(database: Database, node_settings: NodeSettings) -> None:
    archive = {**DESTINATION, "results": ["report"]}
    viewer = {**DESTINATION, "name": "viewer", "results": ["overlay", "presentation"]}
    node = node_with(database, node_settings, destinations=[archive, viewer], results={"presentation_state": True})
    node.receive(*exam())
    node.work()
    with database.read() as session:
        query = select(OutboxRow.destination, ResultFile.role).join(
            ResultFile, ResultFile.id == OutboxRow.result_file_id
        )
        rows = {(destination, role) for destination, role in session.execute(query)}
    assert rows == {("pacs", "report"), ("viewer", "overlay"), ("viewer", "presentation")}


def test_destinations__a_refusal_is_withheld_where_nobody_gets_reports(
    database: Database, node_settings: NodeSettings
) -> None:
    node = node_with(database, node_settings, destinations=[{**DESTINATION, "results": ["overlay"]}])
    node.receive(*exam("t1_tse_sag"))
    node.work()
    with database.read() as session:
        assert session.scalars(select(ResultRow)).one().is_withheld
