"""What two headers say about their patients."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_node.images.patients import PatientIdentity, Relation, read_identity
from tests.fakes.datasets import mr_image, save


def identity(
    patient_id: str = "", name: str = "", birth: str = "", sex: str = "", issuer: str = "", character_set: str = ""
) -> PatientIdentity:
    header = Dataset()
    header.SpecificCharacterSet = character_set or "ISO_IR 192"
    header.PatientID, header.PatientName, header.PatientSex = patient_id, name, sex
    header.IssuerOfPatientID = issuer
    header["PatientBirthDate"] = DataElement("PatientBirthDate", "DA", birth, validation_mode=config.IGNORE)
    return PatientIdentity.of(header)


ANNA = identity("PID-A", "ROE^ANNA", "19500102", "F")


@pytest.mark.parametrize(
    ("one", "other", "relation", "difference"),
    [
        # Another id of the same issuer, or where no issuer is stated.
        (ANNA, identity("PID-B", "ROE^ANNA", "19500102", "F"), "contradiction", "another Patient ID"),
        (identity("1", issuer="H"), identity("2", issuer="H"), "contradiction", "another Patient ID"),
        # The same id with another birth date or sex.
        (ANNA, identity("PID-A", "ROE^ANNA", "19990102", "F"), "contradiction", "another birth date"),
        (ANNA, identity("PID-A", "ROE^ANNA", "19500102", "M"), "contradiction", "another sex"),
        (ANNA, identity("PID-A", "DOE^JOHN", "19990102", "M"), "contradiction", "another birth date and another sex"),
        # Nothing strong in common, and another name.
        (ANNA, identity("", "DOE^JOHN", "", ""), "contradiction", "another name"),
        (ANNA, identity("", "DOE^JOHN", "19990102", ""), "contradiction", "another birth date"),
        (identity(name="ROE^ANNA"), identity(name="DOE^JOHN"), "contradiction", "another name"),
        (
            identity(name="ROE^ANNA", birth="19500102"),
            identity(name="DOE^JO", birth="19500102"),
            "contradiction",
            "name",
        ),
        (identity("1", "A^B", issuer="H"), identity("2", "C^D", issuer="K"), "contradiction", "another name"),
        (identity("1", "A^B", issuer="H"), identity("1", "C^D", issuer="K"), "contradiction", "another name"),
        # Spelling.
        (ANNA, identity("PID-A", "MILLER^ANNA", "19500102", "F"), "spelling", "another name"),
        (ANNA, identity("PID-A", "МИЛЛЕР^АННА", "19500102", "F"), "spelling", "another name"),
        (ANNA, identity("PID-A", "MILLER^ANNE"), "spelling", "another name"),
        (ANNA, identity("", "MILLER^ANNA", "19500102"), "spelling", "another name"),
        # The same.
        (ANNA, ANNA, "same", ""),
        (ANNA, identity("PID-A"), "same", ""),
        (ANNA, identity("PID-A", "roe^anna^^", "19500102"), "same", ""),
        (ANNA, identity("PID-A ", "Roe^Anna=", "1950.01.02", "F"), "same", ""),
        (ANNA, identity("PID-A", "ROE^ANNA", "19500102", "F", issuer="H"), "same", ""),
        (ANNA, identity("", "ROE^ANNA", "19500102"), "same", ""),
        (identity("1", "A^BB", "19500102", issuer="H"), identity("2", "A^BB", "19500102", issuer="K"), "same", ""),
        # Unknown: empty is not equal.
        (ANNA, identity(), "unknown", ""),
        (identity(), identity(), "unknown", ""),
        (ANNA, identity(name="ROE^ANNA"), "unknown", ""),
        (ANNA, identity(birth="19500102"), "unknown", ""),
        (ANNA, identity(sex="F"), "unknown", ""),
        (ANNA, identity(birth="00000000", sex="X"), "unknown", ""),
        (identity("1", issuer="H"), identity("2", issuer="K"), "unknown", ""),
        (identity("1", issuer="H"), identity("2"), "unknown", ""),
    ],
)
def test_comparison(one: PatientIdentity, other: PatientIdentity, relation: str, difference: str) -> None:
    for seen in (one.compared_to(other), other.compared_to(one)):
        assert seen.relation == relation
        assert difference in seen.difference
        assert bool(difference) == bool(seen.difference)


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        ("Yamada^Tarou=山田^太郎", "YAMADA^TAROU", "same"),
        ("Yamada^Tarou=山田^太郎", "Yamada^Tarou=山田^太朗", "spelling"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Tarou=山田^太郎=やまた^たろう", "spelling"),
        ("=山田^太郎", "Yamada^Tarou", "same"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎", "ヤマダ^タロウ", "same"),
    ],
)
def test_every_component_group_counts(one: str, other: str, relation: str) -> None:
    assert identity("1", one).compared_to(identity("1", other)).relation == relation


def test_a_name_is_compared_as_it_reads__not_by_its_bytes() -> None:
    latin = identity("1", "Müller^Jürgen", character_set="ISO_IR 100")
    assert latin == identity("1", "Müller^Jürgen", character_set="ISO_IR 192")
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.add_new("PatientName", "PN", "Müller^Jürgen".encode("latin-1"))
    header.PatientID = "1"
    assert PatientIdentity.of(header) == latin


_VALUES = st.builds(
    identity,
    st.sampled_from(["", "1", "2"]),
    st.sampled_from(["", "A^BB", "C^BB", "D^EE"]),
    st.sampled_from(["", "19500102", "19990102"]),
    st.sampled_from(["", "M", "F"]),
    st.sampled_from(["", "H", "K"]),
)


@given(_VALUES, _VALUES)
def test_comparison__is_symmetric_and_nothing_contradicts_itself(one: PatientIdentity, other: PatientIdentity) -> None:
    assert one.compared_to(other) == other.compared_to(one)
    assert one.compared_to(one).relation in (Relation.SAME, Relation.UNKNOWN)
    assert one.compared_to(PatientIdentity()).relation is Relation.UNKNOWN


def test_read_identity__of_a_file_and_of_what_is_none(tmp_path: Path) -> None:
    image = mr_image()
    image.PatientBirthDate = "19500102"
    found = read_identity(save(image, tmp_path / "image.dcm"))
    assert (found.patient_id, found.birth_date, found.name[0]) == ("SECRET-ID", "19500102", "secret^name")
    (tmp_path / "text").write_text("no image")
    assert read_identity(tmp_path / "text").is_empty
    assert read_identity(tmp_path / "absent").is_empty
