"""Seconds that the shipped model needs for one exam on this CPU: medians, for a volume and for DICOM files.

python benchmarks/exam_latency.py [--exams 8] [--rounds 5] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics

import torch

from spineone_core.detection.detector import Detector
from trainer.evaluation.latency import measure_latency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure_latency(Detector.load("default", device="cpu"), exams=options.exams, rounds=options.rounds)
    print(f"{len(found.study)} runs, {options.threads} threads, torch {torch.__version__}")
    for name, values in (("volume to findings", found.volume), ("DICOM files to findings", found.study)):
        low, high = min(values), max(values)
        print(f"{name}: median {statistics.median(values):.2f} s (min {low:.2f}, max {high:.2f})")


if __name__ == "__main__":
    main()
