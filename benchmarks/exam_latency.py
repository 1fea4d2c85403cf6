"""Seconds that the shipped model needs for one exam on this CPU: medians, from the volume and from DICOM files.

The volume is decoded and in memory in the first case; the second reads headers, chooses the series and decodes too.

    python benchmarks/exam_latency.py [--exams 8] [--rounds 5] [--threads 2]

Exams are phantoms of the demo's kind, written as DICOM and read back; nothing but the project is needed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from spineone_core.detector import Detector
from spineone_core.dicom_series import group_series, load_volume, read_headers
from spineone_core.phantom_dicom import write_exam


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    detector = Detector.load("default", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        exams = [write_exam(Path(folder) / str(n), n, companions=False) for n in range(options.exams)]
        paths = [list(exam.files["t2"]) for exam in exams]
        volumes = [load_volume(group_series(read_headers(files)[0])[0]) for files in paths]
        detector.detect(volumes[0])
        detect, study = [], []
        for _ in range(options.rounds):
            for files, volume in zip(paths, volumes, strict=True):
                began = time.perf_counter()
                detector.detect(volume)
                middle = time.perf_counter()
                detector.read_study(files)
                detect.append(middle - began)
                study.append(time.perf_counter() - middle)
    print(f"{len(detect)} runs, {options.threads} threads, torch {torch.__version__}")
    for name, values in (("volume to findings", detect), ("DICOM files to findings", study)):
        low, high = min(values), max(values)
        print(f"{name}: median {statistics.median(values):.2f} s (min {low:.2f}, max {high:.2f})")


if __name__ == "__main__":
    main()
