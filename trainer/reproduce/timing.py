"""Seconds for an exam: one-stage against two-stage inference (Section IV-D)."""

from __future__ import annotations

import platform
import time
from contextlib import suppress

import numpy as np
import torch

from spineone_core.detection.decoding import decode
from spineone_core.detection.devices import choose_device, place_network
from spineone_core.detection.preprocessing import prepare
from spineone_core.findings import NotAnalysable
from spineone_core.network.rows import Row
from trainer.reproduce.scores import Score
from trainer.reproduce.trainings import Trainings, never_refusing

# These are enough for a median; more would only cost time.
MOST_EXAMS = 20


def seconds_an_exam(trainings: Trainings, row: Row) -> Score:
    """Median and range over test exams, one at a time, from the prepared picture to ten keypoints or to the refusal."""
    package = trainings.package(row)
    manifest, device = never_refusing(package.manifest), choose_device(trainings.options.device)
    network = place_network(package.network, device)
    exams = [prepare(exam.volume, manifest.preprocessing) for exam in trainings.exams.test[:MOST_EXAMS]]
    seconds = []
    for prepared in (exams[0], *exams):  # the first one warms up
        began = time.perf_counter()
        with suppress(NotAnalysable):
            decode(network, prepared, manifest, device)
        seconds.append(time.perf_counter() - began)
    timed = seconds[1:]
    return Score(float(np.median(timed)), min(timed), max(timed))


def machine_of(trainings: Trainings) -> str:
    """The machine that the times were measured on."""
    device = choose_device(trainings.options.device)
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
