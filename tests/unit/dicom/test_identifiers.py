"""UIDs are functions of content; own results are recognised, inputs are not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from dicom_node.dicom import identifiers
from dicom_node.dicom.identifiers import MANUFACTURER, ResultKey, is_own_result, model_device_uid, tracking_uid
from spineone_core.anatomy import READING_ORDER, Landmark, Structure

SR = "1.2.840.10008.5.1.4.1.1.88.34"
MR = "1.2.840.10008.5.1.4.1.1.4"
KEY = ResultKey("1.2.3", (("1.2.3.4", "aa"), ("1.2.3.5", "bb")), "c" * 64, "dd", "2026-01-05T10:00:00+00:00")


def test_known_uid_never_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identifiers, "SOFTWARE_VERSION", "0.1.0")
    assert identifiers.WRITER_VERSION == "3", "a new writer version gives new UIDs: renew the value below"
    assert KEY.uid("sr") == "2.25.230120746459372078134101850750274252906"


def test_order_and_repetition_of_inputs_do_not_matter() -> None:
    turned = replace(KEY, inputs=(*KEY.inputs[::-1], KEY.inputs[0]))
    assert turned == KEY
    assert turned.uid("sr") == KEY.uid("sr")


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, study_uid="1.2.33"),
        replace(KEY, inputs=KEY.inputs[:1]),
        replace(KEY, inputs=(("1.2.3.4", "bb"), ("1.2.3.5", "aa"))),
        replace(KEY, inputs=(("1.2.3.4a", "a"), ("1.2.3.5", "bb"))),
        replace(KEY, model_digest="e" * 64),
        replace(KEY, settings_digest=""),
        replace(KEY, created="2026-01-05T10:00:01+00:00"),
        replace(KEY, model_digest="dd", settings_digest="c" * 64),
    ],
)
def test_any_other_content_has_another_uid(other: ResultKey) -> None:
    assert other.uid("sr") != KEY.uid("sr")


@pytest.mark.parametrize("name", ["WRITER_VERSION", "SOFTWARE_VERSION"])
def test_another_writer_has_another_uid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = KEY.uid("sr")
    monkeypatch.setattr(identifiers, name, "another")
    assert KEY.uid("sr") != before


@given(st.text(min_size=1), st.text(min_size=1))
def test_uids_are_valid_and_differ_by_role(one: str, other: str) -> None:
    uid = UID(KEY.uid(one))
    assert uid.is_valid
    assert len(uid) <= 64
    assert (KEY.uid(other) == uid) == (one == other)


def test_uids_of_all_kinds_differ() -> None:
    roles = [KEY.uid(role) for role in ("sr", "sr-series", "overlay", "overlay-series")]
    tracking = [tracking_uid(KEY.study_uid, landmark) for landmark in READING_ORDER]
    everything = [*roles, *tracking, model_device_uid("c" * 64), model_device_uid("d" * 64)]
    assert len(set(everything)) == len(everything)


def test_tracking_uid_depends_on_study_and_structure_only() -> None:
    disc = Landmark(Structure.DISC, "L4-L5")
    assert tracking_uid("1.2.3", disc) == tracking_uid("1.2.3", disc)
    assert tracking_uid("1.2.3", disc) != tracking_uid("1.2.4", disc)


@pytest.mark.parametrize("build", [lambda: ResultKey("", (), "", "", ""), lambda: KEY.uid("")])
def test_keys_without_a_name_are_refused(build: object) -> None:
    with pytest.raises(ValueError, match="needs a"):
        build()  # type: ignore[operator]


def _object(sop_class: str | None, manufacturer: str | None, contributor: str | None = None) -> Dataset:
    dataset = Dataset()
    if sop_class is not None:
        dataset.SOPClassUID = sop_class
    if manufacturer is not None:
        dataset.Manufacturer = manufacturer
    if contributor is not None:
        item = Dataset()
        item.Manufacturer = contributor
        dataset.ContributingEquipmentSequence = Sequence([item])
    return dataset


@pytest.mark.parametrize(
    ("dataset", "own"),
    [
        (_object(SR, MANUFACTURER), True),
        (_object(SR, MANUFACTURER + " "), True),
        (_object(SR, "Archive", MANUFACTURER), True),
        (_object(SR, None, MANUFACTURER), True),
        (_object(SR, "Siemens"), False),
        (_object(SR, "Siemens", "Siemens"), False),
        (_object(MR, MANUFACTURER), False),
        (_object(MR, "Siemens", MANUFACTURER), False),
        (_object(None, MANUFACTURER), False),
        (_object(SR, None), False),
        (Dataset(), False),
    ],
)
def test_own_results_are_recognised(dataset: Dataset, own: bool) -> None:
    assert is_own_result(dataset) is own


def test_an_undecodable_header_is_not_ours() -> None:
    class Hostile(Dataset):
        def get(self, *args: object, **kwargs: object) -> object:
            raise RecursionError

    assert is_own_result(Hostile()) is False
