"""What a data set of CT volumes holds (Table V): scans, vertebrae, geometry, pictures, and what looks wrong in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from trainer.curation.html import Section
from trainer.curation.inspection import SHEET, quantiles, write_report
from trainer.datasets.exam import Skipped
from trainer.volumes.exam import VolumeExam

# From the middle of one vertebra to that of the next, from children's necks to adults' lumbar spines.
STEP_MM = (8.0, 55.0)
# The values of a CT in Hounsfield units reach from air to bone.
AIR_HU, BONE_HU = -500.0, 200.0
HEIGHT = 300
LEGEND = "Slices through the middle vertebra, along the body; dots are the annotated centroids."


@dataclass(slots=True)
class VolumeInspection:
    """It is filled scan by scan, so that only one volume is in memory."""

    title: str
    scans: list[tuple[str, str, str, int]] = field(default_factory=list)
    geometry: list[dict[str, float]] = field(default_factory=list)
    odd: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    examples: list[Image.Image] = field(default_factory=list)

    def look_at(self, items: Iterable[VolumeExam | Skipped]) -> None:
        """Take in everything that the reader yields."""
        for item in items:
            if isinstance(item, Skipped):
                self.skipped.append(item)
            else:
                self._add(item)

    def _add(self, exam: VolumeExam) -> None:
        self.scans.append((exam.exam_id, exam.patient, exam.part, len(exam.names)))
        self.geometry.append(geometry_of(exam))
        self.odd += [(exam.exam_id, text) for text in (*exam.notes, *volume_suspicions(exam))]
        if len(self.examples) < SHEET:
            self.examples.append(picture_of(exam))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "title": self.title,
            "exams": len(self.scans),
            "patients": len({patient for _, patient, _, _ in self.scans}),
            "parts": dict(Counter(part for _, _, part, _ in self.scans)),
            "vertebrae": sum(count for _, _, _, count in self.scans),
            "left_out": [{"exam": s.exam_id, "why": s.why} for s in self.skipped],
            "odd": [{"exam": exam_id, "what": text} for exam_id, text in self.odd],
            "geometry": {name: quantiles([g[name] for g in self.geometry]) for name in self._names()},
        }

    def _names(self) -> list[str]:
        return list(self.geometry[0]) if self.geometry else []

    def sections(self) -> list[Section]:
        """The report for people, text only."""
        content = self.to_json()
        parts = ", ".join(f"{count} {part}" for part, count in sorted(content["parts"].items()))
        line = f"{content['exams']} scans ({parts}) of {content['patients']} patients, {content['vertebrae']} vertebrae"
        rows = [(name, *(f"{v:.4g}" for v in values.values())) for name, values in content["geometry"].items()]
        return [
            Section(heading="Counts", lines=[f"{line}; {len(self.skipped)} left out"]),
            Section(heading="Geometry", columns=("", "least", "5 %", "median", "95 %", "most"), rows=rows),
            Section(heading=f"Odd ({len(self.odd)})", columns=("scan", "what"), rows=self.odd, text=True),
            Section(
                heading=f"Left out ({len(self.skipped)})",
                columns=("scan", "why"),
                rows=[(s.exam_id, s.why) for s in self.skipped],
                text=True,
            ),
        ]

    def write(self, out: Path) -> None:
        """Write ``inspection.json``, ``.txt`` and ``.html`` and ``examples.png`` into a folder."""
        write_report(out, self.title, self.sections(), self.to_json(), {"examples": self.examples}, LEGEND)


def geometry_of(exam: VolumeExam) -> dict[str, float]:
    """Size and spacing of a scan by name."""
    z, y, x = map(float, exam.voxels.shape)
    sizes = {"voxels, x": x, "voxels, y": y, "voxels, z": z, "vertebrae": float(len(exam.names))}
    return sizes | dict(zip(("mm, x", "mm, y", "mm, z"), exam.spacing_mm, strict=True))


def volume_suspicions(exam: VolumeExam) -> Iterator[str]:
    """A sentence for each thing that a person should look at."""
    along = exam.points[np.argsort(exam.points[:, 2])] * exam.spacing_mm
    steps = np.linalg.norm(np.diff(along, axis=0), axis=1)
    for step in steps[(steps < STEP_MM[0]) | (steps > STEP_MM[1])]:
        yield f"two neighbouring vertebrae are {step:.0f} mm apart; usual are {STEP_MM[0]:.0f} to {STEP_MM[1]:.0f}"
    low, high = np.percentile(exam.voxels[:: max(1, len(exam.voxels) // 16)], (1, 99.5))
    if low > AIR_HU or high < BONE_HU:
        yield f"values from {low:.0f} to {high:.0f} are not those of CT in Hounsfield units"


def picture_of(exam: VolumeExam) -> Image.Image:
    """The sagittal slice through the middle vertebra, the head on top, with all centroids."""
    middle = exam.points[len(exam.points) // 2]
    plane = exam.voxels[::-1, :, round(float(middle[0]))]
    grey = (np.clip((plane + 200) / 1000, 0, 1) * 255).astype(np.uint8)
    rows, columns = plane.shape
    scale = HEIGHT / (rows * exam.spacing_mm[2])
    picture = Image.fromarray(grey).resize((max(1, round(columns * exam.spacing_mm[1] * scale)), HEIGHT)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for _, y, z in exam.points:
        column, row = (y + 0.5) * exam.spacing_mm[1] * scale, (rows - 0.5 - z) * exam.spacing_mm[2] * scale
        draw.ellipse([column - 3, row - 3, column + 3, row + 3], fill=(255, 80, 200))
    return picture
