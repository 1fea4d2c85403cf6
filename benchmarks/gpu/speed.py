"""Latency, throughput, memory and training speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.checks import batches_of, learner_of, training_task
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.table import Row
from benchmarks.gpu.timing import operations_of, peak_bytes, roof, seconds_of, wait_for
from spineone_core.detection.decoding import decode
from spineone_core.detection.devices import place_network
from spineone_core.detection.keypoints import find_keypoints
from spineone_core.detection.model_package import Manifest, load_package
from spineone_core.detection.preprocessing import Grid, Prepared, PreprocessingConfig
from spineone_core.detection.views import InferenceOptions
from spineone_core.findings import NotAnalysable
from spineone_core.network.attention import position_attention
from spineone_core.network.build import build_network
from spineone_core.network.spineone import SpineOne
from spineone_core.network.two_stage import TwoStage
from spineone_core.phantom.exam import make_phantom
from trainer.training.options import RunOptions, workers_of

LATENCY = "10 ms, aim 5 (the paper: 29)"
THROUGHPUT = "150 exams/s, aim 400"
MS = 1000.0


def _pictures(sizes: Sizes, batch: int, device: torch.device) -> Tensor:
    shape = (batch, sizes.paper.slices, sizes.side, sizes.side)
    return torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)


def _forward(network: SpineOne, images: Tensor, precision: str) -> Callable[[], Any]:
    """One pass through the network; a two-stage detector also classifies ten crops of each picture."""
    places = torch.linspace(0.2, 0.8, 10, device=images.device)[None, :, None] * images.shape[-1]
    points = places.expand(len(images), -1, 2)

    @torch.inference_mode()
    def call() -> None:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            network(images)
            if isinstance(network, TwoStage):
                network.classify(images, points, PreprocessingConfig().spacing_mm)

    return call


def network_of(sizes: Sizes, device: torch.device, *, two_stage: bool = False) -> SpineOne:
    """A detector of the paper with random weights, ready to be timed."""
    torch.manual_seed(0)
    return place_network(build_network(sizes.two_stage if two_stage else sizes.paper).eval(), device)


def paper_rows(sizes: Sizes, device: torch.device) -> list[Row]:
    """The paper's detector: latency at batch 1, throughput by batch, and the share of what matrix products reach here."""
    network, rows = network_of(sizes, device), []
    for precision in sizes.precisions:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        top = roof(device, dtype, sizes.seconds / 4, 8192 if sizes.side >= 512 else 128)
        each = operations_of(_forward(network, _pictures(sizes, 1, device), "fp32"))
        for batch in sizes.batches:
            seconds = seconds_of(
                _forward(network, _pictures(sizes, batch, device), precision), device, sizes.seconds / 2
            )
            share = f"{batch * each / seconds / 1e12:.3g} TFLOP/s, {batch * each / seconds / top:.0%} of the roof"
            name = f"network, {precision}, {sizes.side} x {sizes.side}, batch {batch}"
            if batch == 1:
                rows.append(_latency("paper's detector", name, seconds, share))
            rate = batch / seconds
            rows.append(
                Row(
                    part="paper's detector",
                    name=name,
                    value=rate,
                    unit="exams/s",
                    target=THROUGHPUT,
                    passed=rate >= 150,
                    note=share,
                )
            )
    rows.append(_decoded(sizes, network, device))
    return rows


def _latency(part: str, name: str, seconds: float, note: str = "") -> Row:
    return Row(part=part, name=name, value=seconds * MS, unit="ms", target=LATENCY, passed=seconds <= 0.01, note=note)


def _decoded(sizes: Sizes, network: SpineOne, device: torch.device) -> Row:
    """From the prepared picture to ten keypoints or to the refusal, with voting and levels, which run on the CPU."""
    images = np.random.default_rng(0).normal(size=(1, sizes.paper.slices, sizes.side, sizes.side)).astype(np.float32)
    prepared = Prepared(images, Grid(sizes.side, sizes.side, np.eye(2, 3)), 0)
    manifest = Manifest(
        name="random",
        version="0",
        network=sizes.paper,
        preprocessing=PreprocessingConfig(slices=sizes.paper.slices),
    )

    def call() -> None:
        with suppress(NotAnalysable):
            decode(network, prepared, manifest, device, InferenceOptions(precision=precision))

    precision = sizes.precisions[-1]
    seconds = seconds_of(call, device, sizes.seconds / 2, warm_up=1)
    return _latency(
        "paper's detector", f"prepared picture to keypoints, {precision}", seconds, "voting on the CPU; random weights"
    )


def shipped_rows(sizes: Sizes, device: torch.device) -> list[Row]:
    """The shipped model from a volume in memory to ten graded keypoints: one exam, and sixteen together."""
    package = load_package("default")
    network = place_network(package.network, device)
    domain = None if package.domain is None else package.domain.to(device)
    grading = {structure: ensemble.to(device) for structure, ensemble in package.grading.items()}
    volume, rows = make_phantom(0, slices=3).volume, []
    for precision in sizes.precisions:
        options = InferenceOptions(precision=precision, batch=max(sizes.batches))
        for batch in sizes.batches if sizes.whole else (1,):
            volumes = [volume] * batch

            def call(volumes: list[Any] = volumes, options: InferenceOptions = options) -> None:
                find_keypoints(
                    volumes, network, package.manifest, device, domain=domain, grading=grading, options=options
                )

            seconds = seconds_of(call, device, sizes.seconds, warm_up=2 if sizes.whole else 0)
            name = f"volume to graded keypoints, {precision}, batch {batch}"
            if batch == 1:
                rows.append(Row(part="shipped model", name=name, value=seconds * MS, unit="ms"))
            rows.append(Row(part="shipped model", name=name, value=batch / seconds, unit="exams/s"))
    return rows


def stages_rows(sizes: Sizes, device: torch.device) -> list[Row]:
    """One stage against two, one exam at a time; the paper says ten times."""
    images = _pictures(sizes, 1, device)
    spent = [
        seconds_of(
            _forward(network_of(sizes, device, two_stage=two), images, sizes.precisions[-1]), device, sizes.seconds / 2
        )
        for two in (False, True)
    ]
    names = ("one stage: the paper's detector", "two stages: hourglass and ResNet18 on ten crops")
    rows = [Row(part="stages", name=n, value=s * MS, unit="ms") for n, s in zip(names, spent, strict=True)]
    rows.append(
        Row(
            part="stages",
            name="two stages / one stage",
            value=spent[1] / spent[0],
            unit="x",
            note="the paper: about 10",
        )
    )
    return rows


def attention_rows(sizes: Sizes, device: torch.device) -> list[Row]:
    """Memory and time of position attention alone at batch 64, forward and backward, bf16."""
    batch, side, channels = sizes.attention
    query, key, value = (
        torch.randn(batch, side**2, n, device=device, dtype=torch.bfloat16, requires_grad=True)
        for n in (channels // 8, channels // 8, channels)
    )

    def call() -> None:
        position_attention(query, key, value).square().sum().backward()

    call()
    held = peak_bytes(call, device)
    seconds = seconds_of(call, device, sizes.seconds / 2, warm_up=0)
    name = f"batch {batch}, {side} x {side} x {channels}, forward and backward"
    whole = batch * side**4 * 2 / 2**30
    return [
        Row(
            part="attention",
            name=name,
            value=None if held is None else held / 2**30,
            unit="GiB at most",
            note=f"the whole map would be {whole:.0f} GiB" + ("; torch tells of CUDA only" if held is None else ""),
        ),
        Row(part="attention", name=name, value=seconds * MS, unit="ms"),
    ]


def training_rows(sizes: Sizes, device: torch.device, workers: str = "auto") -> list[Row]:
    """Training steps with batches that lie ready, the loader alone, and both together: does the loader keep up?"""
    task, rows = training_task(sizes), []
    batch = task.schedule.batch
    options = RunOptions(
        device=device.type, precision="bf16" if device.type == "cuda" else "fp32", workers=workers_of(workers)
    )
    batches = batches_of(task, device, options, 2 * sizes.steps + 4)
    kept = [next(batches)]
    began = time.perf_counter()
    for _ in range(sizes.steps):
        kept = [next(batches)]
    prepared = sizes.steps * batch / (time.perf_counter() - began)
    learner = learner_of(task, device, options)
    alone = seconds_of(lambda: learner.step(iter(kept), 0), device, sizes.seconds)
    began = time.perf_counter()
    for number in range(sizes.steps):
        learner.step(batches, number)
    wait_for(device)
    together = sizes.steps / (time.perf_counter() - began)
    name = f"{task.schedule.name}, batch {batch}, {options.precision}"
    rows += [
        Row(part="training", name=f"{name}: batches that lie ready", value=1 / alone, unit="steps/s"),
        Row(part="training", name=f"{name}: with the loader", value=together, unit="steps/s"),
        Row(
            part="training",
            name=f"loader alone, {options.workers} workers",
            value=prepared,
            unit="samples/s",
            target=f"{batch / alone:.3g}, what the steps take",
            passed=prepared >= batch / alone,
        ),
    ]
    return rows
