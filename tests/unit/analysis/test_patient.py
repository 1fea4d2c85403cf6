"""Whose images a result may use together."""

from __future__ import annotations

import pytest

from dicom_node.analysis.patient import MOST_IDENTITIES, TwoPatientsError, judge
from dicom_node.images.patients import PatientIdentity

A = PatientIdentity("A", name=("roe^anna", "", ""), birth_date="19500102", sex="F")
B = PatientIdentity("", name=("doe^john", "", ""), birth_date="19990102", sex="M")
MARRIED = PatientIdentity("A", name=("miller^anna", "", ""), birth_date="19500102", sex="F")
BLANK = PatientIdentity()


def judged(used: list[PatientIdentity], others: list[PatientIdentity] | None = None, **options: object) -> list[str]:
    identities = dict(enumerate([*used, *(others or [])]))
    named = {str(number): identity for number, identity in identities.items()}
    return judge(named, [str(n) for n in range(len(used))], **options)  # type: ignore[arg-type]


def test_one_patient__nothing_to_say() -> None:
    assert judged([A, A], [A]) == []


@pytest.mark.parametrize("used", [[A, B], [A, A, B], [B, BLANK, A]])
def test_two_patients__put_aside_even_through_images_that_say_nothing(used: list[PatientIdentity]) -> None:
    with pytest.raises(TwoPatientsError, match=r"^two_patients: ") as error:
        judged(used)
    assert "another birth date and another sex" in str(error.value)
    assert not any(value in str(error.value) for value in ("roe", "doe", "1950", "1999"))


@pytest.mark.parametrize(
    ("used", "note"),
    [
        ([A, MARRIED], "not all images used say the same of the patient: another name"),
        ([A, BLANK], "some of the images used do not say for certain whose they are"),
        ([BLANK, BLANK], "the images do not say whose they are"),
    ],
)
def test_what_is_no_contradiction_warns(used: list[PatientIdentity], note: str) -> None:
    assert judged(used) == [note]


def test_other_objects_only_warn() -> None:
    assert judged([A, A], [B, B, MARRIED, BLANK]) == [
        "2 other objects of the study are of another patient; they were not used"
    ]


def test_what_a_person_confirmed_warns__and_only_that() -> None:
    other = PatientIdentity("A", birth_date="19990102")
    assert judged([A, other], confirmed={A, other}) == [
        "not all images used say the same of the patient: another birth date"
    ]
    with pytest.raises(TwoPatientsError):
        judged([A, other, B], confirmed={A, other})
    with pytest.raises(TwoPatientsError):
        judged([A, other], confirmed={A})


def test_more_identities_than_one_patient_has__are_not_compared() -> None:
    many = [PatientIdentity("A", name=(f"n{n}", "", "")) for n in range(MOST_IDENTITIES + 1)]
    assert len(judged(many[:-1])) == 1
    with pytest.raises(TwoPatientsError, match=f"in {MOST_IDENTITIES + 1} ways"):
        judged(many)
