"""Phantom studies on disk: valid, consistent with their truth, and read back exactly."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import get_encoder
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.judgement import plane_of
from spineone_core.imaging.selection import Selection, select_series
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.phantom.config import PhantomConfig
from spineone_core.phantom.dicom import WrittenExam, write_exam

SMALL = PhantomConfig(matrix=(256,), slices=(11,))
DCIODVFY = "/usr/bin/dciodvfy"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> WrittenExam:
    return write_exam(tmp_path_factory.mktemp("study"), 7, config=SMALL)


def select(folder: Path) -> Selection:
    headers, unreadable = read_headers([folder])
    assert not unreadable
    return select_series(group_series(headers), min_slices=5)


def check_read_back(written: WrittenExam) -> None:
    """The chosen series is the T2, with the truth's voxels, geometry and slice."""
    selection = select(written.directory)
    assert selection.chosen is not None
    volume, truth = load_volume(selection.chosen), written.exam.volume
    np.testing.assert_array_equal(volume.voxels, truth.voxels)
    np.testing.assert_allclose(volume.origins, truth.origins, atol=1e-6)
    assert volume.series_uid == written.series_uid
    source = volume.sources[volume.middle_index]
    assert (source.sop_instance_uid, source.frame_number) == (written.sop_instance_uid, written.frame_number)
    for x, y in written.points.values():
        found, expected = (v.to_patient(v.middle_index, x, y) for v in (volume, truth))
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_t2_is_chosen_and_read_back(study: WrittenExam) -> None:
    check_read_back(study)


def test_every_companion_is_left_for_its_reason(study: WrittenExam) -> None:
    outcomes = {line.split(": ", 1)[1] for line in select(study.directory).explanations}
    assert outcomes == {
        "chosen: sagittal, T2 by description, 11 slices",
        "not chosen: a localiser",
        "not chosen: T1-weighted by description",
        "not chosen: axial",
    }


def test_series_lie_in_one_study_and_frame_of_reference(study: WrittenExam) -> None:
    images = [dcmread(path, stop_before_pixels=True) for paths in study.files.values() for path in paths]
    assert {str(i.StudyInstanceUID) for i in images} == {study.study_uid}
    assert len({str(i.FrameOfReferenceUID) for i in images}) == 1
    assert len({str(i.SeriesInstanceUID) for i in images}) == 4
    assert len({str(i.SOPInstanceUID) for i in images}) == len(images)
    assert {str(i.PatientName) for i in images} == {"PHANTOM^SPINEONE"}
    planes = {plane_of(h) for h in read_headers(study.files["localiser"])[0]}
    assert planes == {"sagittal", "coronal", "axial"}


def test_axial_pictures_show_the_anatomy(study: WrittenExam) -> None:
    """The bright canal lies where the sagittal series' canal lies in patient space."""
    patient, plan = study.exam.patient, study.exam.plan
    part = patient.body("L4").part
    y, z = part.local_to_anatomy(part.depth / 2 + 0.5 * patient.canal_depth, 0)
    canal = plan.pose @ np.array([part.lateral, y, z]) + plan.shift
    (series,) = group_series(read_headers(study.files["axial"])[0])
    volume = load_volume(series)
    index = int(np.argmin(np.abs(volume.positions - canal @ volume.normal)))
    x, y = map(round, volume.from_patient(canal, index))
    assert volume.voxels[index][y, x] > np.percentile(volume.voxels[index], 80)


def test_files_are_the_same_for_the_same_seed(tmp_path: Path, study: WrittenExam) -> None:
    again = write_exam(tmp_path, 7, config=SMALL, companions=False)
    first, second = (w.files["t2"][3].read_bytes() for w in (study, again))
    assert first == second


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_transfer_syntaxes(tmp_path: Path, syntax: str) -> None:
    if not get_encoder(syntax).is_available:
        pytest.skip("no encoder installed")
    written = write_exam(tmp_path, 7, config=SMALL, slices=5, companions=False, transfer_syntax=syntax)
    assert dcmread(written.files["t2"][0]).file_meta.TransferSyntaxUID == syntax
    check_read_back(written)


@pytest.mark.parametrize("slices", [2, 6])
def test_the_middle_of_an_even_number_of_slices(tmp_path: Path, slices: int) -> None:
    for seed in range(4):
        written = write_exam(tmp_path / str(seed), seed, config=SMALL, slices=slices, companions=False)
        (series,) = group_series(read_headers([written.directory])[0])
        volume = load_volume(series)
        assert volume.sources[volume.middle_index].sop_instance_uid == written.sop_instance_uid


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_enhanced_multi_frame(tmp_path: Path, syntax: str | None) -> None:
    options = {} if syntax is None else {"transfer_syntax": syntax}
    written = write_exam(tmp_path, 7, config=SMALL, companions=False, enhanced=True, **options)
    assert len(written.files["t2"]) == 1
    assert written.frame_number == 6
    check_read_back(written)


@pytest.mark.dciodvfy
@pytest.mark.skipif(not shutil.which(DCIODVFY), reason="dicom3tools is not installed")
def test_dciodvfy_finds_no_error(tmp_path: Path, study: WrittenExam) -> None:
    enhanced = write_exam(tmp_path, 7, config=SMALL, companions=False, enhanced=True)
    for path in [*(paths[0] for paths in study.files.values()), enhanced.files["t2"][0]]:
        answer = subprocess.run([DCIODVFY, "-new", str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in (answer.stdout + answer.stderr).splitlines() if "Error" in line]
        assert errors == []
