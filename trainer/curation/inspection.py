"""What a data set holds (counts, classes by level, geometry, scanners, example pictures) and what looks wrong in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spineone_core.anatomy import READING_ORDER
from trainer.curation.html import Section, as_source, as_text, render
from trainer.curation.suspicions import image_digest, suspicions
from trainer.curation.thumbnails import LEGEND, contact_sheet, png_of, thumbnail
from trainer.datasets.exam import Exam, Skipped
from trainer.datasets.scanner import scanner_of

# Number of pictures on each sheet.
SHEET = 24


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of an exam that was looked at. ``notes`` come from its reader, ``suspicions`` from its values."""

    exam_id: str
    subset: str
    notes: tuple[str, ...]
    suspicions: tuple[str, ...]
    missing: tuple[str, ...]
    classes: tuple[str, ...]
    geometry: dict[str, float]
    scanner: str
    part: str


@dataclass(slots=True)
class Inspection:
    """What one or more data sets hold; it is filled exam by exam, so that only one exam is in memory."""

    title: str
    part_of: dict[str, str] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    patients: set[str] = field(default_factory=set)
    examples: list[Image.Image] = field(default_factory=list)
    suspicious: list[Image.Image] = field(default_factory=list)
    _digests: dict[str, str] = field(default_factory=dict)
    _seen: int = 0

    def look_at(self, items: Iterable[Exam | Skipped]) -> None:
        """Take in everything that a reader yields."""
        for item in items:
            if isinstance(item, Skipped):
                self.skipped.append(item)
            else:
                self._add(item)

    def _add(self, exam: Exam) -> None:
        odd = [*suspicions(exam), *self._twin(exam)]
        part = self.part_of.get(exam.patient, "") if self.part_of else ""
        if self.part_of and not part:
            odd.append("its patient stands in no part of the split file")
        self.patients.add(exam.patient)
        self.records.append(
            Record(
                exam_id=exam.exam_id,
                subset=exam.subset,
                notes=exam.notes,
                suspicions=tuple(odd),
                missing=exam.missing,
                classes=tuple(grade.value if grade else "unknown" for grade in exam.grade_row),
                geometry=geometry_of(exam),
                scanner=scanner_of(exam),
                part=part,
            )
        )
        self._picture(exam, bool(odd or exam.notes))

    def _twin(self, exam: Exam) -> Iterator[str]:
        digest = image_digest(exam)
        if digest in self._digests:
            yield f"shows the same picture as {self._digests[digest]}"
        self._digests.setdefault(digest, exam.exam_id)

    def _picture(self, exam: Exam, odd: bool) -> None:
        """Keep the first suspicious exams, and examples that are spread evenly however many exams come."""
        self._seen += 1
        step = 1 << max(0, (self._seen - 1).bit_length() - SHEET.bit_length() + 1)
        if odd and len(self.suspicious) < SHEET:
            self.suspicious.append(thumbnail(exam, _caption(exam)))
        if (self._seen - 1) % step == 0:
            self.examples.append(thumbnail(exam, _caption(exam)))
            if len(self.examples) > SHEET:
                self.examples = self.examples[::2]

    # ------------------------------------------------------------ what it says

    @property
    def odd(self) -> list[Record]:
        """The records with a note or a suspicion."""
        return [record for record in self.records if record.notes or record.suspicions]

    def to_json(self) -> dict[str, Any]:
        """The report for programs: all odd exams with what is odd in them, and all left out with the reason."""
        return {
            "title": self.title,
            "exams": len(self.records),
            "patients": len(self.patients),
            "left_out": [{"exam": s.exam_id, "why": s.why} for s in self.skipped],
            "odd": [{"exam": r.exam_id, "notes": list(r.notes), "suspicions": list(r.suspicions)} for r in self.odd],
            "classes": {level: dict(counts) for level, counts in self._class_counts().items()},
            "geometry": {name: quantiles(values) for name, values in self._geometry().items()},
            "scanners": dict(Counter(r.scanner for r in self.records)),
        }

    def sections(self) -> list[Section]:
        """The report for people, text only."""
        return [
            self._counts_section(),
            self._classes_section(),
            self._geometry_section(),
            Section(
                heading="Scanners",
                columns=("scanner", "exams"),
                rows=[(name, str(n)) for name, n in Counter(r.scanner for r in self.records).most_common()],
            ),
            self._odd_section(),
            Section(
                heading=f"Left out ({len(self.skipped)})",
                columns=("exam", "why"),
                rows=[(s.exam_id, s.why) for s in self.skipped],
                text=True,
            ),
        ]

    def _counts_section(self) -> Section:
        groups = Counter((r.subset, r.part or "-") for r in self.records)
        rows = [(subset, part, str(n)) for (subset, part), n in sorted(groups.items())]
        lines = [
            f"{len(self.records)} exams of {len(self.patients)} patients; {len(self.skipped)} left out; "
            f"{len(self.odd)} with something odd"
        ]
        return Section(heading="Counts", lines=lines, columns=("subset", "part", "exams"), rows=rows, text=True)

    def _class_counts(self) -> dict[str, Counter[str]]:
        counts: dict[str, Counter[str]] = {landmark.level: Counter() for landmark in READING_ORDER}
        for record in self.records:
            for landmark, word in zip(READING_ORDER, record.classes, strict=True):
                counts[landmark.level]["no point" if landmark.level in record.missing else word] += 1
        return counts

    def _classes_section(self) -> Section:
        words = ("normal", "degenerative", "unknown", "no point")
        rows = []
        for level, counts in self._class_counts().items():
            known = counts["normal"] + counts["degenerative"]
            share = f"{100 * counts['degenerative'] / known:.0f} %" if known else "-"
            rows.append((level, *(str(counts[word]) for word in words), share))
        return Section(heading="Classes by level", columns=("level", *words, "degenerative of known"), rows=rows)

    def _geometry(self) -> dict[str, list[float]]:
        names = self.records[0].geometry if self.records else {}
        return {name: [r.geometry[name] for r in self.records if np.isfinite(r.geometry[name])] for name in names}

    def _geometry_section(self) -> Section:
        rows = [
            (name, *(f"{value:.4g}" for value in quantiles(values).values()))
            for name, values in self._geometry().items()
            if values
        ]
        return Section(heading="Geometry", columns=("", "least", "5 %", "median", "95 %", "most"), rows=rows)

    def _odd_section(self) -> Section:
        rows = [(r.exam_id, text) for r in self.odd for text in (*r.notes, *r.suspicions)]
        return Section(heading=f"Odd ({len(self.odd)} exams)", columns=("exam", "what"), rows=rows, text=True)

    def write(self, out: Path) -> None:
        """Write ``inspection.json``, ``.txt`` and ``.html``, ``examples.png`` and ``suspicious.png`` into a folder."""
        sheets = {"examples": self.examples, "suspicious": self.suspicious}
        write_report(out, self.title, self.sections(), self.to_json(), sheets, LEGEND)


def write_report(
    out: Path,
    title: str,
    sections: Sequence[Section],
    content: dict[str, Any],
    sheets: dict[str, list[Image.Image]],
    legend: str,
) -> None:
    """Write an inspection as text, JSON and HTML, and each sheet of pictures under its name."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "inspection.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    (out / "inspection.txt").write_text(as_text(title, sections), "utf-8")
    pages = list(sections)
    for name, pictures in sheets.items():
        if pictures:
            png = png_of(contact_sheet(pictures))
            (out / f"{name}.png").write_bytes(png)
            pages.append(Section(heading=f"Pictures: {name}", pictures=[as_source(png)], lines=[legend]))
    (out / "inspection.html").write_text(render(title, pages), "utf-8")


def geometry_of(exam: Exam) -> dict[str, float]:
    """The lengths of an exam by name; NaN where it has no such length."""
    rows, columns = exam.volume.voxels.shape[1:]
    between_rows, between_columns = exam.volume.pixel_spacing
    points = exam.point_array * [between_columns, between_rows]
    known = points[np.isfinite(points).all(axis=1)]
    steps = np.linalg.norm(np.diff(known, axis=0), axis=1)
    return {
        "rows": float(rows),
        "columns": float(columns),
        "mm between rows": between_rows,
        "mm between columns": between_columns,
        "height, mm": rows * between_rows,
        "slices": float(len(exam.volume.voxels)),
        "slice step, mm": exam.volume.slice_step if len(exam.volume.voxels) > 1 else float("nan"),
        "L1 to L5-S1, mm": float(steps.sum()) if not exam.missing else float("nan"),
    }


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Least, 5 %, median, 95 % and most of the values; empty where there is none."""
    if not values:
        return {}
    found = np.quantile(values, (0, 0.05, 0.5, 0.95, 1))
    return dict(zip(("least", "5 %", "median", "95 %", "most"), map(float, found), strict=True))


def _caption(exam: Exam) -> str:
    columns, rows = exam.volume.voxels.shape[2], exam.volume.voxels.shape[1]
    return f"{exam.exam_id[-26:]}\n{columns} x {rows}, slice {exam.slice_index + 1}/{len(exam.volume.voxels)}"
