"""Row 15: one study, two patients. It is put aside until it is sent again or released; the two are never merged."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_node.analysis.release import ReleaseError
from dicom_node.database.connection import Database
from dicom_node.database.tables import Instance, OutboxRow
from dicom_node.health import overview
from dicom_node.settings.node import NodeSettings
from dicom_node.upkeep.export import Exporter
from tests.fakes.datasets import STUDY, mr_image
from tests.fakes.still_node import StillNode

A = {"PatientID": "PID-A", "PatientName": "ROE^ANNA", "PatientBirthDate": "19500102", "PatientSex": "F"}
B = {"PatientID": "", "PatientName": "DOE^JOHN", "PatientBirthDate": "19990102", "PatientSex": "M"}
C = {**A, "PatientID": "PID-C"}
TWIN = {**A, "PatientName": "DOE^JOHN", "PatientBirthDate": "19990102"}
MARRIED = {**A, "PatientName": "MILLER^ANNA"}
NOBODY = dict.fromkeys(A, "")


def image(number: int, patient: dict[str, str], **changes: object) -> Dataset:
    dataset = mr_image(number)
    for keyword, value in {**patient, **changes}.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def node(database: Database, node_settings: NodeSettings) -> StillNode:
    return StillNode.with_a_destination(database, node_settings)


def put_aside(node: StillNode) -> str:
    """Do the study's job; gives the reason for which it was put aside."""
    before = len(node.reports())
    job = node.work()
    assert job.state == "failed"
    assert job.reason.startswith("two_patients: ")
    assert node.alerts() == {"two_patients": job.reason}
    assert len(node.reports()) == before
    return job.reason


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (B, "another birth date and another sex"),
        (C, "another Patient ID"),
        (TWIN, "another birth date"),
        ({**A, "PatientSex": "M"}, "another sex"),
        ({**NOBODY, "PatientName": "DOE^JOHN"}, "another name"),
    ],
)
def test_two_patients__are_put_aside_and_nothing_is_sent(
    node: StillNode, other: dict[str, str], difference: str
) -> None:
    node.receive(*(image(n, A) for n in range(1, 6)), *(image(n, other) for n in range(6, 9)))
    assert list((node.settings.data_dir / "quarantine").iterdir()) == []
    assert difference in put_aside(node)
    assert (node.reports(), list((node.settings.data_dir / "results").iterdir())) == ([], [])
    with node.database.read() as session:
        assert session.scalars(select(OutboxRow)).all() == []
        shown = str(overview.status(session, node.settings)) + str(overview.job_list(session))
        events = overview.job_detail(session, 1)["events"]  # type: ignore[index]
    assert "two_patients: the images to be read (5 and 3)" in shown
    assert [event["event"] for event in events] == ["claimed", "put_aside"]
    assert not any(value in shown for patient in (A, other) for value in patient.values() if len(value) > 1)


def test_an_image_that_says_nothing__does_not_join_two_patients(node: StillNode) -> None:
    node.receive(image(1, A), image(2, NOBODY), image(3, B))
    put_aside(node)


@pytest.mark.parametrize(
    ("others", "note"),
    [
        (MARRIED, "not all images used say the same of the patient: another name"),
        (NOBODY, "some of the images used do not say for certain whose they are"),
        ({**NOBODY, "PatientID": "PID-A"}, ""),
    ],
)
def test_what_is_no_contradiction__is_one_study(node: StillNode, others: dict[str, str], note: str) -> None:
    node.receive(*(image(n, A) for n in range(1, 4)), *(image(n, others) for n in range(4, 6)))
    job = node.work()
    assert (job.state, node.counted, node.alerts()) == ("done", [5], {})
    assert note in job.reason
    assert note in node.findings()


def test_anonymous_images__are_one_study_with_a_warning(node: StillNode) -> None:
    node.receive(*(image(n, NOBODY) for n in range(1, 6)))
    assert node.work().state == "done"
    assert "the images do not say whose they are" in node.findings()


def localiser(number: int, patient: dict[str, str]) -> Dataset:
    return image(number, patient, SeriesInstanceUID=STUDY + ".7", SeriesDescription="localiser")


def second_t2(number: int, patient: dict[str, str]) -> Dataset:
    return image(number, patient, SeriesInstanceUID=STUDY + ".7", ImagePositionPatient=[1.0 * number, 0, 0])


def test_other_objects__only_warn(node: StillNode) -> None:
    capture = image(30, B, SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    node.receive(*(image(n, A) for n in range(1, 6)), localiser(20, B), capture)
    job = node.work()
    assert job.state == "done"
    assert "2 other objects of the study are of another patient; they were not used" in job.reason
    assert "2 other objects" in node.findings()
    assert (node.patients(), node.alerts()) == (["PID-A"], {})


def test_a_series_that_might_have_been_read__decides_too(node: StillNode) -> None:
    node.receive(*(image(n, A) for n in range(1, 6)), *(second_t2(n, B) for n in range(11, 16)))
    put_aside(node)


def test_a_study_without_t2__is_no_one_elses(node: StillNode) -> None:
    """There is nothing to read, but the report that says so needs a patient too."""
    node.receive(localiser(1, A), localiser(2, B))
    put_aside(node)


# ---------------------------------------------------------------- corrections by the archive


def test_a_correction_of_all__is_followed(node: StillNode) -> None:
    node.receive(*(image(n, A) for n in range(1, 6)))
    node.work()
    node.receive(*(image(n, C) for n in range(1, 6)))
    assert node.work().state == "done"
    first, second = node.reports()
    assert (first.PatientID, second.PatientID, node.alerts()) == ("PID-A", "PID-C", {})
    named = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_a_correction_before_the_first_result__is_followed_without_a_word(node: StillNode) -> None:
    for patient in (B, A):
        node.receive(*(image(n, patient) for n in range(1, 6)))
    assert node.work().state == "done"
    assert (node.patients(), node.alerts()) == (["PID-A"], {})


def test_a_correction_of_some__waits_for_the_rest(node: StillNode) -> None:
    node.receive(*(image(n, A) for n in range(1, 9)))
    node.work()
    node.receive(*(image(n, C) for n in range(1, 6)))
    put_aside(node)
    exporter = Exporter(node.settings, node.database, node.settings.data_dir.parent / "out", b"k" * 32)
    assert "two_patients" in exporter.export(STUDY).left_out
    node.receive(*(image(n, C) for n in range(6, 9)))
    assert node.work().state == "done"
    assert (node.patients(), node.alerts()) == (["PID-A", "PID-C"], {})


def test_two_patients__sent_again_as_one(node: StillNode) -> None:
    node.receive(*(image(n, A) for n in range(1, 6)), *(image(n, B) for n in range(6, 9)))
    put_aside(node)
    node.receive(*(image(n, A) for n in range(6, 9)))
    assert node.work().state == "done"
    assert (node.patients(), node.counted, node.alerts()) == (["PID-A"], [8, 8], {})


# ---------------------------------------------------------------- release


@pytest.fixture
def aside(node: StillNode) -> StillNode:
    """Five images of A and three of B."""
    node.receive(*(image(n, A) for n in range(1, 6)), *(image(n, B) for n in range(6, 9)))
    put_aside(node)
    return node


@pytest.mark.parametrize(("asked", "images", "name"), [("PID-A", 5, A), ("", 3, B)])
def test_release__uses_the_images_of_one_patient(
    aside: StillNode, asked: str, images: int, name: dict[str, str]
) -> None:
    done = aside.release(patient_id=asked)
    assert (done.used, done.left_out, done.job) == (images, 8 - images, 2)
    assert aside.alerts() == {}
    job = aside.work()
    assert (job.id, job.state, aside.counted[-1]) == (2, "done", images)
    (report,) = aside.reports()
    assert str(report.PatientName) == name["PatientName"]
    assert f"{8 - images} images of another patient were left out" in aside.findings()
    assert f"{8 - images} images of another patient were left out" in job.reason


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"patient_id": "PID-X"}, "no image"),
        ({"patient_id": "PID-A", "birth_date": "19990102"}, "no image"),
        ({"patient_id": "PID-A", "issuer": "X"}, "no image"),
    ],
)
def test_release__for_nobody_in_the_study(aside: StillNode, asked: dict[str, str], why: str) -> None:
    with pytest.raises(ReleaseError, match=why) as error:
        aside.release(**asked)
    assert "PID" not in str(error.value)
    assert set(aside.alerts()) == {"two_patients"}


def test_release__of_a_study_that_is_not_put_aside(node: StillNode) -> None:
    with pytest.raises(ReleaseError, match="there is no study"):
        node.release(patient_id="PID-A")
    node.receive(*(image(n, A) for n in range(1, 6)))
    with pytest.raises(ReleaseError, match="is not put aside"):
        node.release(patient_id="PID-A")
    node.work()
    with pytest.raises(ReleaseError, match="is not put aside"):
        node.release(patient_id="PID-A")


def test_release__again_while_its_job_waits__and_for_the_other_afterwards(aside: StillNode) -> None:
    aside.release(patient_id="PID-A")
    with pytest.raises(ReleaseError, match=r"job 2 of study .* is waiting"):
        aside.release(patient_id="")
    aside.work()
    aside.release(patient_id="")
    assert aside.work().state == "done"
    first, second = aside.reports()
    assert (str(first.PatientName), str(second.PatientName)) == ("ROE^ANNA", "DOE^JOHN")
    assert "PredecessorDocumentsSequence" in second


def test_release__while_more_images_come(aside: StillNode) -> None:
    aside.receive(image(9, A))
    assert aside.release(patient_id="PID-A").job is None
    assert aside.work().state == "done"
    assert (aside.counted[-1], aside.patients()) == (6, ["PID-A"])


def test_release__stays_in_force_for_later_images_of_both(aside: StillNode) -> None:
    aside.release(patient_id="PID-A")
    aside.work()
    aside.receive(image(9, B), image(10, A))
    assert aside.work().state == "done"
    assert (aside.counted[-1], aside.patients()) == (6, ["PID-A", "PID-A"])


def test_release__for_an_id_that_two_share(node: StillNode) -> None:
    """By the ID alone the person says that it is one patient; with the birth date, which of the two is meant."""
    node.receive(*(image(n, A) for n in range(1, 6)), *(image(n, TWIN) for n in range(6, 9)))
    put_aside(node)
    node.release(patient_id="PID-A")
    assert "another birth date" in node.work().reason
    assert node.counted[-1] == 8
    assert node.release(patient_id="PID-A", birth_date="19500102").left_out == 3
    assert node.work().state == "done"
    assert (node.counted[-1], str(node.reports()[-1].PatientBirthDate)) == (5, "19500102")
    # A third birth date that comes later is nobody's word.
    node.release(patient_id="PID-A")
    node.work()
    node.receive(image(9, {**A, "PatientBirthDate": "19770102"}))
    assert "another birth date" in put_aside(node)


def test_release__is_void_where_the_archive_corrects_some_of_the_images(aside: StillNode) -> None:
    aside.release(patient_id="PID-A")
    aside.work()
    aside.receive(*(image(n, C) for n in range(1, 4)))
    put_aside(aside)
    aside.receive(*(image(n, C) for n in range(4, 6)))
    assert aside.work().state == "done"
    assert (aside.counted[-1], aside.patients(), aside.alerts()) == (5, ["PID-A", "PID-C"], {})


def test_every_image_is_kept(aside: StillNode) -> None:
    aside.release(patient_id="PID-A")
    aside.work()
    with aside.database.read() as session:
        rows = session.scalars(select(Instance)).all()
    assert [(aside.settings.data_dir / row.path).is_file() for row in rows] == [True] * 8
