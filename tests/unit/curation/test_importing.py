"""Import into the SDID-TC layout: nothing changes on the way, and a killed import goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.selection import select_series
from spineone_core.imaging.series import group_series
from spineone_core.phantom.config import PhantomConfig
from tests.fakes.spine_files import write_sdid
from tests.unit.datasets.test_readers import single, write_rsna, write_spider
from trainer.curation.dicom_files import to_stored_values
from trainer.curation.importing import import_exams, write_phantoms
from trainer.datasets import formats, phantoms, sdid_tc
from trainer.datasets.exam import Exam, Skipped


def same(first: Exam, second: Exam) -> None:
    assert (first.patient, first.slice_index, first.centroids) == (second.patient, second.slice_index, second.centroids)
    assert first.points.keys() == second.points.keys()
    for level, point in first.points.items():
        assert second.points[level] == pytest.approx(point, abs=1e-3)
    assert {k: v for k, v in first.grades.items() if v} == {k: v for k, v in second.grades.items() if v}
    assert np.array_equal(first.volume.voxels, second.volume.voxels)
    assert np.allclose(first.volume.origins, second.volume.origins, atol=1e-3)
    assert first.volume.pixel_spacing == pytest.approx(second.volume.pixel_spacing)


def test_spider__becomes_dicom_that_reads_the_same(tmp_path: Path) -> None:
    write_spider(tmp_path / "spider")
    source = str(tmp_path / "spider")
    done = import_exams(lambda known: formats.read(source, known=known), tmp_path / "out")
    assert (done.written, done.present, done.skipped) == (1, 0, ())
    exam = single(sdid_tc.read(tmp_path / "out"))
    same(single(formats.read(source)), exam)
    assert (exam.manufacturer, exam.field_strength_t) == ("SIEMENS", 1.5)
    headers, unreadable = read_headers([tmp_path / "out" / "spider_7_t2"])
    assert not unreadable
    assert select_series(group_series(headers)).chosen is not None


def test_rsna__keeps_that_points_are_no_centroids(tmp_path: Path) -> None:
    write_rsna(tmp_path / "rsna")
    said: list[str] = []
    done = import_exams(lambda known: formats.read(str(tmp_path / "rsna"), known=known), tmp_path / "out", said.append)
    assert len(done.skipped) == 2
    assert "left out: rsna2024/6: no sagittal T2 series" in said
    first, *_ = formats.read(str(tmp_path / "rsna"))
    assert isinstance(first, Exam)
    same(first, single(sdid_tc.read(tmp_path / "out")))


def test_sdid__files_are_copied_byte_for_byte(tmp_path: Path) -> None:
    write_sdid(tmp_path / "in")
    import_exams(lambda known: sdid_tc.read(tmp_path / "in", known=known), tmp_path / "out")
    copies = {path.read_bytes() for path in (tmp_path / "out" / "in_study1").iterdir()}
    assert copies == {path.read_bytes() for path in (tmp_path / "in" / "study1").iterdir()}


def test_killed_import__goes_on_where_it_was(tmp_path: Path) -> None:
    write_sdid(tmp_path / "in", ["study1", "study2", "study3"])

    def killed(known: Collection[str]) -> Iterator[Exam | Skipped]:
        exams = list(sdid_tc.read(tmp_path / "in"))
        yield exams[0]
        (tmp_path / "out" / "in_study2.part").mkdir()
        (tmp_path / "out" / "in_study2.part" / "image001.dcm").write_bytes(b"half a file")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_exams(killed, tmp_path / "out")
    first = tmp_path / "out" / "in_study1" / "image001.dcm"
    written = first.stat().st_mtime_ns
    done = import_exams(lambda known: sdid_tc.read(tmp_path / "in", known=known), tmp_path / "out")
    assert (done.written, done.present) == (2, 1)
    assert first.stat().st_mtime_ns == written
    assert len(list(sdid_tc.read(tmp_path / "out"))) == 3
    assert not list((tmp_path / "out").glob("*.part"))
    record = json.loads((tmp_path / "out" / ".imported" / "in_study1.json").read_text())
    assert record["notes"] == []


@pytest.mark.parametrize("write", [write_spider, write_rsna, write_sdid])
def test_known_exams__are_passed_over_by_every_reader(tmp_path: Path, write: Callable[[Path], object]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder)
    exams, skipped = formats.split_skipped(formats.read(str(folder)))
    again, skipped_again = formats.split_skipped(formats.read(str(folder), known={e.exam_id for e in exams}))
    assert len(exams) == 1
    assert again == []
    assert skipped_again == skipped


def test_phantoms__dicom_studies_with_their_truth(tmp_path: Path) -> None:
    config = PhantomConfig(matrix=(256,), slices=(11,))
    assert write_phantoms(range(3, 4), tmp_path, config=config).written == 1
    assert write_phantoms(range(3, 5), tmp_path, config=config).present == 1
    first, second = sdid_tc.read(tmp_path)
    assert isinstance(first, Exam)
    assert isinstance(second, Exam)
    assert first.notes == second.notes == ()
    assert pydicom.dcmread(tmp_path / "phantom_3" / "image001.dcm").PatientName == "PHANTOM^SPINEONE"
    (same_seed,) = phantoms.read(range(3, 4), slices=1)
    assert first.patient == same_seed.patient
    assert len(first.points) == 11


@pytest.mark.parametrize(
    "voxels", [np.array([[0.0, 900]]), np.array([[-1024.0, 3000]]), np.array([[0.25, 1e6]]), np.array([[7.0, 7.0]])]
)
def test_stored_values__are_whole_numbers_or_nearly_so(voxels: np.ndarray) -> None:
    stored, slope, intercept = to_stored_values(voxels.astype(np.float32))
    assert stored.dtype == np.dtype("<u2")
    tolerance = 0 if np.array_equal(voxels, np.round(voxels)) and voxels.max() < 65536 else slope
    assert np.abs(stored * slope + intercept - voxels).max() <= tolerance
