"""The image files that tables and COCO files name: slices of DICOM series, and plain pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydicom.uid import MRImageStorage

from spineone_core.imaging.headers import FrameHeader, read_headers
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.imaging.volume import SagittalVolume, SliceSource
from trainer.datasets.scanner import read_patient, read_scanner
from trainer.datasets.volume_files import SUFFIXES, name_uid

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


class SliceImages:
    """The images below a folder, by their path in it. The headers of a folder are read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._headers: dict[Path, list[FrameHeader]] = {}

    def load(self, name: str, spacing_mm: float | None) -> tuple[SagittalVolume, int]:
        """The volume of an image, and the image's index in it: the whole series of a DICOM file, one slice of a picture.

        A picture shows the patient from the side, anterior at the left and the head above, with pixels of ``spacing_mm``.

        Raises
        ------
        ValueError
            If the image is not there, cannot be read, lies outside the folder, is a picture without a spacing or a volume.
        NotAnalysable
            If its series cannot be read.
        """
        path = self.folder / name
        if not path.is_file() or not path.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{name} is not there")
        if path.name.endswith(SUFFIXES):
            raise ValueError(f"{name} is a volume: give its points as markups of 3D Slicer, or as a label map")
        if path.suffix.lower() in PICTURES:
            return _picture(path, name, spacing_mm), 0
        return self._slice(path, name)

    def _slice(self, path: Path, name: str) -> tuple[SagittalVolume, int]:
        if path.parent not in self._headers:
            self._headers[path.parent] = read_headers(sorted(p for p in path.parent.iterdir() if p.is_file()))[0]
        for series in group_series(self._headers[path.parent]):
            if any(frame.path == path for frame in series.frames):
                volume = load_volume(series, isolate=False)
                places = [k for k, source in enumerate(volume.sources) if source.path == path]
                if len(places) == 1:
                    return volume, places[0]
                raise ValueError(f"{name} holds {len(places)} slices of its series; one is needed")
        raise ValueError(f"{name} cannot be read as an image")


def patient_and_scanner(volume: SagittalVolume, index: int, otherwise: str) -> tuple[str, str, float | None]:
    """PatientID (``otherwise`` where there is none), manufacturer and field strength of a slice."""
    path = volume.sources[index].path
    if path.suffix.lower() in PICTURES or path.name.endswith(SUFFIXES):
        return otherwise, "", None
    return read_patient(path) or otherwise, *read_scanner(path)


def _picture(path: Path, name: str, spacing_mm: float | None) -> SagittalVolume:
    if spacing_mm is None or not spacing_mm > 0:
        raise ValueError(f"{name} is a picture and needs spacing_mm, the side of its pixels")
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image if image.mode in ("L", "F") or image.mode.startswith("I") else image.convert("L"))
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{name} cannot be read as a picture: {error}") from error
    return SagittalVolume(
        voxels=pixels.astype(np.float32)[None],
        origins=np.zeros((1, 3)),
        row_direction=np.array([0.0, 1.0, 0.0]),
        column_direction=np.array([0.0, 0.0, -1.0]),
        pixel_spacing=(spacing_mm, spacing_mm),
        sources=(SliceSource(path, name_uid("picture", name, 0), MRImageStorage, None),),
        study_uid=name_uid("picture", name),
        series_uid=name_uid("picture", name, "series"),
    )
