"""Seconds that a detector needs for an exam, measured on phantoms like the demo's, so that no data are needed."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from spineone_core.detection.detector import Detector
from spineone_core.imaging.headers import read_headers
from spineone_core.imaging.series import group_series, load_volume
from spineone_core.phantom.dicom import write_exam


@dataclass(slots=True)
class Latency:
    """Seconds of each run: for a volume in memory, and for DICOM files (with headers, choice of the series and decoding)."""

    volume: list[float] = field(default_factory=list)
    study: list[float] = field(default_factory=list)


def measure_latency(detector: Detector, *, exams: int = 8, rounds: int = 5) -> Latency:
    """Measure ``exams`` phantoms, each ``rounds`` times, after a first run that does not count."""
    found = Latency()
    with tempfile.TemporaryDirectory() as folder:
        written = [write_exam(Path(folder) / str(n), n, companions=False) for n in range(exams)]
        paths = [list(exam.files["t2"]) for exam in written]
        volumes = [load_volume(group_series(read_headers(files)[0])[0]) for files in paths]
        detector.detect(volumes[0])
        for _ in range(rounds):
            for files, volume in zip(paths, volumes, strict=True):
                began = time.perf_counter()
                detector.detect(volume)
                middle = time.perf_counter()
                detector.read_study(files)
                found.volume.append(middle - began)
                found.study.append(time.perf_counter() - middle)
    return found
