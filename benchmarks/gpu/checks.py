"""What a GPU must compute as the CPU does: attention, targets, a step of the training; and the findings of the shipped model.

Each check is a plain function of the device, so that they run where there is no pytest; `tests/unit/benchmarks/test_gpu.py`
runs them on the CPU, and on a GPU where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.sizes import Sizes, small
from benchmarks.gpu.table import Row
from spineone_core.anatomy import READING_ORDER
from spineone_core.detection.devices import compile_network, place_network
from spineone_core.detection.keypoints import FoundKeypoints, Refusal, find_keypoints
from spineone_core.detection.model_package import ModelPackage, load_package
from spineone_core.detection.views import InferenceOptions
from spineone_core.imaging.volume import SagittalVolume
from spineone_core.network.attention import position_attention, position_attention_reference
from spineone_core.phantom.exam import make_phantom
from trainer.datasets import phantoms
from trainer.samples.pictures import pictures_of
from trainer.samples.targets import draw_batch
from trainer.training.keypoint_task import KeypointTask, TrainingData
from trainer.training.learner import Learner, load_batches
from trainer.training.micro_batches import MicroBatches
from trainer.training.options import RunOptions
from trainer.training.ranks import Ranks

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far findings may be from those of fp32 on the CPU: millimetres, and probability of degeneration."""

    mm: float
    probability: float


# fp32 in another order of summation, and bf16, whose numbers have eight bits.
EXACT, HALF = Tolerance(0.1, 0.01), Tolerance(0.5, 0.05)


def attention_difference(device: torch.device) -> float:
    """The largest difference of our attention on the device from the obvious form on the CPU, forward and backward."""
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 400, n, generator=generator) for n in (8, 8, 32)]
    found = []
    for form, where in ((position_attention_reference, CPU), (position_attention, device)):
        there = [part.to(where).requires_grad_() for part in parts]
        mixed = form(*there)
        mixed.square().sum().backward()
        found.append([mixed.detach().cpu(), *(t.grad.cpu() for t in there if t.grad is not None)])
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*found, strict=True))


def target_pixels_that_differ(device: torch.device) -> float:
    """Pixels of the targets that the device draws otherwise than the CPU."""
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(-10, 138, (16, 5, 2)))
    classes = torch.from_numpy(rng.integers(-1, 2, (16, 5)))
    ignored = torch.from_numpy(rng.uniform(0, 128, (16, 1, 2)))
    maps = [draw_batch(points.to(d), classes.to(d), ignored.to(d), (128, 128), 6.0) for d in (CPU, device)]
    return float(sum(((a.cpu() - b.cpu()).abs() > 1e-6).sum() for a, b in zip(*maps, strict=True)))


def training_task(sizes: Sizes) -> KeypointTask:
    """The training recipe on phantoms."""
    exams = phantoms.read(range(sizes.exams), slices=sizes.training.network.slices)
    pictures = [pictures_of(exam, sizes.training.preprocessing, 0.0) for exam in exams]
    return KeypointTask(sizes.training, TrainingData(pictures * 2, [], []))


def learner_of(task: KeypointTask, device: torch.device, options: RunOptions) -> Learner:
    """A fresh learner of a task."""
    torch.manual_seed(0)
    return Learner(task.objective(), task.schedule, options, device, Ranks(), steps_per_epoch=1000, steps=10**6)


def batches_of(
    task: KeypointTask, device: torch.device, options: RunOptions, steps: int
) -> Iterator[dict[str, Tensor]]:
    """Its micro-batches."""
    batch = task.schedule.batch
    parts = MicroBatches(batch=batch, count=1, rank=0, world=1, first_step=0, steps=steps)
    return load_batches(task.samples(0), parts, options, device)


def step_difference(device: torch.device) -> float:
    """The largest relative difference of the loss terms in two steps of a tiny training on the device and on the CPU."""
    task, losses = training_task(small()), []
    for where in (CPU, device):
        options = RunOptions(device=where.type)
        learner, batches = learner_of(task, where, options), batches_of(task, where, options, 2)
        losses.append([[float(v) for v in learner.step(batches, n).values()] for n in range(2)])
    one, other = np.array(losses[0]), np.array(losses[1])
    return float(np.max(np.abs(one - other) / np.maximum(np.abs(one), 1e-3)))


CHECKS: dict[str, tuple[Callable[[torch.device], float], float]] = {
    "attention, forward and backward, against the obvious form (relative)": (attention_difference, 1e-3),
    "targets of the training (pixels that differ)": (target_pixels_that_differ, 0),
    "two training steps (relative)": (step_difference, 1e-2),
}


def check_rows(device: torch.device) -> list[Row]:
    """All checks."""
    rows = []
    for name, (measure, most) in CHECKS.items():
        value = measure(device)
        rows.append(Row(part="checks", name=name, value=value, target=f"at most {most:g}", passed=value <= most))
    return rows


# ---------------------------------------------------------------- findings


def _found(
    package: ModelPackage, volumes: list[SagittalVolume], device: torch.device, options: InferenceOptions
) -> list[FoundKeypoints | Refusal]:
    domain = None if package.domain is None else package.domain.to(device)
    grading = {structure: network.to(device) for structure, network in package.grading.items()}
    return find_keypoints(
        volumes, package.network, package.manifest, device, domain=domain, grading=grading, options=options
    )


def distance(
    reference: list[FoundKeypoints | Refusal], other: list[FoundKeypoints | Refusal], volumes: list[SagittalVolume]
) -> Tolerance:
    """The largest distance of a keypoint in mm, and of its probability; infinite where only one of both refuses."""
    mm = probability = 0.0
    for one, two, volume in zip(reference, other, volumes, strict=True):
        if isinstance(one, Refusal) or isinstance(two, Refusal):
            if isinstance(one, Refusal) != isinstance(two, Refusal):
                return Tolerance(np.inf, np.inf)
            continue
        rows, columns = volume.pixel_spacing
        for a, b in zip(one.keypoints, two.keypoints, strict=True):
            mm = max(mm, float(np.hypot((a.x - b.x) * columns, (a.y - b.y) * rows)))
            probability = max(probability, abs(a.probability - b.probability))
    return Tolerance(mm, probability)


WAYS: dict[str, tuple[InferenceOptions, Tolerance]] = {
    "fp32, channels last": (InferenceOptions(), EXACT),
    "bf16": (InferenceOptions(precision="bf16"), HALF),
}
COMPILED = {"compiled, fp32": (InferenceOptions(compiled=True), EXACT)}


def ways(sizes: Sizes) -> dict[str, tuple[InferenceOptions, Tolerance]]:
    """The ways of running the network that are compared."""
    return {name: way for name, way in WAYS.items() if way[0].precision in sizes.precisions}


def compiled_rows(device: torch.device) -> list[Row]:
    """The same through ``torch.compile``, on one phantom."""
    return findings_rows(device, 1, COMPILED)


def findings_rows(
    device: torch.device, exams: int, ways: Mapping[str, tuple[InferenceOptions, Tolerance]] = WAYS
) -> list[Row]:
    """The findings of the shipped model in each way of running it, against fp32 on the CPU."""
    volumes = [make_phantom(seed, slices=3).volume for seed in range(exams)]
    package = load_package("default")
    reference = _found(package, volumes, CPU, InferenceOptions())
    read = sum(not isinstance(found, Refusal) for found in reference)
    if not read:
        return [Row(part="findings", name="phantoms read", value=0, target="at least 1", passed=False)]
    rows = []
    for name, (options, most) in ways.items():
        there = replace(package, network=place_network(deepcopy(package.network), device))
        if options.compiled:
            compile_network(there.network, device)
        got = distance(reference, _found(there, volumes, device, options), volumes)
        note = f"{read} of {exams} phantoms read, {len(READING_ORDER)} levels each"
        for unit, value, limit in (("mm", got.mm, most.mm), ("of probability", got.probability, most.probability)):
            rows.append(
                Row(
                    part="findings",
                    name=f"{name}: farthest from fp32 on the CPU",
                    value=value,
                    unit=unit,
                    target=f"at most {limit:g}",
                    passed=value <= limit,
                    note=note,
                )
            )
    return rows
