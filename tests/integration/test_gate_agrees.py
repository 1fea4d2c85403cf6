"""Whatever dciodvfy calls an error, the gate has stopped before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_node.gate.check import check
from dicom_node.results.envelope import to_bytes
from dicom_node.results.key_object import build_key_object
from dicom_node.results.kinds import REPORT_2D
from dicom_node.results.overlay import build_overlay
from dicom_node.results.presentation import build_presentation
from dicom_node.results.report import build_report
from tests.integration.test_validators import errors, program, run
from tests.unit.synthetic import CREATED, KEY, analysed, classic, refused, volume

_COMMON: dict[str, Any] = {"detection": analysed(), "header": classic(), "key": KEY, "created": CREATED}
OBJECTS: dict[str, Callable[[], Dataset]] = {
    "report": lambda: build_report(**_COMMON, slice_header=classic()),
    "refusal": lambda: build_report(**{**_COMMON, "detection": refused()}, slice_header=None, kind=REPORT_2D),
    "overlay": lambda: build_overlay(**_COMMON, volume=volume(rows=40, columns=32, spacing=(6.0, 6.0))),
    "presentation": lambda: build_presentation(**_COMMON, volume=volume(), slice_header=classic()),
    "key object": lambda: build_key_object(**_COMMON, slice_header=classic()),
}

Path_ = tuple[str | int, ...]


def places(dataset: Dataset, above: Path_ = ()) -> Iterator[Path_]:
    """Every element, in sequences too; sequences are represented by one item of each kind."""
    for element in dataset:
        yield (*above, element.keyword)
        if element.VR == "SQ":
            kinds = set()
            for index, item in enumerate(element.value):
                kind = tuple(e.keyword for e in item)
                if kind not in kinds:
                    kinds.add(kind)
                    yield from places(item, (*above, element.keyword, index))


def holder(dataset: Dataset, place: Path_) -> Dataset:
    """The data set that an element of ``places`` is in."""
    for step in place[:-1]:
        dataset = dataset[step].value if isinstance(step, str) else dataset[step]  # type: ignore[index]
    return dataset


def removed(dataset: Dataset, keyword: str) -> None:
    del dataset[keyword]


def emptied(dataset: Dataset, keyword: str) -> None:
    dataset[keyword].value = [] if dataset[keyword].VR == "SQ" else None


def wrong(dataset: Dataset, keyword: str) -> None:
    """A value that no defined term and no other attribute agrees with."""
    if dataset[keyword].VR == "CS":
        dataset[keyword].value = "NONSENSE"


# Documents have hundreds of elements: each trial takes dciodvfy a quarter of a minute and more.
LARGE = ("report", "refusal")
# The elements of the report are removed only; those it shares with the refusal are changed there.
TRIALS = [
    pytest.param(name, change, marks=[pytest.mark.minutes] if name in LARGE else [], id=f"{name}-{change.__name__}")
    for name in OBJECTS
    for change in (removed, emptied, wrong)
    if name != "report" or change is removed
]


@pytest.mark.dciodvfy
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "change"), TRIALS)
def test_the_gate_stops_whatever_dciodvfy_calls_an_error(
    name: str, change: Callable[[Dataset, str], None], tmp_path: Path
) -> None:
    dciodvfy = program("dciodvfy")
    good = to_bytes(OBJECTS[name]())
    path, found, passed = tmp_path / "object.dcm", 0, []
    for place in places(pydicom.dcmread(BytesIO(good))):
        broken = pydicom.dcmread(BytesIO(good))
        change(holder(broken, place), str(place[-1]))
        try:
            data = to_bytes(broken)
        except Exception:  # what cannot be written is no file to judge
            continue
        path.write_bytes(data)
        if data != good and errors(run(dciodvfy, str(path))):
            found += 1
            if not check(broken):
                passed.append(".".join(map(str, place)))
    assert found, "dciodvfy called nothing an error: the comparison shows nothing"
    assert passed == []
