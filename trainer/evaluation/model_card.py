"""The model card of a package: what people at a site must know, taken from the manifest alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spineone_core.anatomy import Structure
from spineone_core.detection.model_package import Manifest
from spineone_core.network.build import build_network, count_parameters

_USE = """\
**Research use only. Not a medical device, not for diagnosis.**

Ten keypoints on a sagittal T2-weighted lumbar MRI, vertebrae L1 to L5 and discs L1-L2 to L5-S1, each with a probability of being
degenerative. Adult lumbar spines with five lumbar vertebrae; everything else is outside of what it was made for. Levels are
counted up from the last disc above the sacrum; a transitional vertebra cannot be recognised without a view of the whole spine.
"""


def model_card(manifest: Manifest, weights_sha256: str, *, limits: str = "") -> str:
    """The card as Markdown. ``limits`` is Markdown from the maker of the model; it becomes a section of its own."""
    sections = [
        f"# Model card: {manifest.name} {manifest.version}\n",
        _USE,
        _identity(manifest, weights_sha256),
        _training(manifest.training),
        _decisions(manifest),
        "## Figures\n\n" + (_figures(manifest.figures) or "None were measured.\n"),
    ]
    if limits:
        sections.append("## Limits\n\n" + limits.strip() + "\n")
    return "\n".join(sections)


def _identity(manifest: Manifest, weights_sha256: str) -> str:
    network, preprocessing = manifest.network, manifest.preprocessing
    rows = {
        "name, version": f"{manifest.name} {manifest.version}",
        "licence of the weights": manifest.licence or "not stated",
        "SHA-256 of the weights": f"`{weights_sha256}`",
        "digest of the package": "SHA-256 of `manifest.json`, which names the weights' and this card's",
        "network": f"{network.architecture}, {network.backbone}, width {network.width}, heatmap {network.heatmap}",
        "parameters": f"{count_parameters(build_network(network)) / 1e6:.1f} million",
        "input": f"{preprocessing.slices} slices at {preprocessing.spacing_mm:g} mm, {preprocessing.fused} stacks averaged",
    }
    return _table(("", ""), rows.items())


def _training(training: Mapping[str, Any]) -> str:
    data = training.get("data") or "not stated"
    rest = {
        name: value for name, value in training.items() if name not in ("data", "domain", "begun_with", "exams_seen")
    }
    rest |= {f"domain check, {name}": value for name, value in training.get("domain", {}).items()}
    seen = training.get("exams_seen")
    if seen is not None:
        rest["exams whose fingerprints the manifest keeps"] = len(seen["pixel_hashes"])
    return (
        f"## Training data\n\n{data}\n\n" + _table(("run", ""), rest.items()) + _origin(training.get("begun_with", []))
    )


def _origin(packages: Sequence[Mapping[str, Any]]) -> str:
    """The packages that the weights were begun with, the nearest first; their data and licences are this model's too."""
    if not packages:
        return ""
    lines = [
        f"- {p['name']} {p['version']}, digest `{p['digest']}`. Trained on: {p['data']} Licence of its weights: {p['licence']}."
        for p in packages
    ]
    return "\nThe weights were begun with those of:\n\n" + "\n".join(lines) + "\n"


def _decisions(manifest: Manifest) -> str:
    lines = ["## When a class is called\n"]
    for structure, calibration in sorted(manifest.calibration.items()):
        if structure not in [kind.value for kind in Structure]:
            lines.append(f"- {structure}: reported, logit x {calibration.slope:g} + {calibration.intercept:g}.")
            continue
        scaling = f"logit x {calibration.slope:g} + {calibration.intercept:g}"
        if calibration.undecided is None:
            rule = f"no class within {manifest.decoding.undecided_margin:g} of one half"
        else:
            low, high = calibration.undecided
            rule = f"no class from {low:.2f} to {high:.2f}"
        if calibration.error_rate is not None and calibration.band == "decided":
            rule += (
                f"; of the decided keypoints of a true class, at most {100 * calibration.error_rate:g} % of those calibrated on "
                "were called the other"
            )
        elif calibration.error_rate is not None:
            rule += (
                f"; by split conformal prediction at most {100 * calibration.error_rate:g} % of normal keypoints are called "
                "degenerative and of degenerative ones normal, on patients like those calibrated on"
            )
        lines.append(f"- {structure}: {scaling}; {rule}.")
    for structure in sorted(manifest.grading):
        lines.append(f"- The class of each {structure} comes from grading networks that look at it once more.")
    if manifest.domain is not None:
        lines.append("- A small network of its own refuses pictures that are no sagittal T2-weighted lumbar MRI.")
    if not manifest.calibration:
        lines.append(f"- not calibrated; no class within {manifest.decoding.undecided_margin:g} of one half.")
    return "\n".join(lines) + "\n"


def _figures(figures: Mapping[str, Any]) -> str:
    """A table with the figures of each group, as ``evaluate --json`` writes them; other values become lines."""
    groups = figures.get("figures", figures)
    tables = {name: group for name, group in groups.items() if isinstance(group, Mapping)}
    lines = [f"- {name}: {value}" for name, value in figures.items() if isinstance(value, str | int | float)]
    names = list(dict.fromkeys(name for group in tables.values() for name in group))
    rows = [(name, " | ".join(_cell(group.get(name)) for group in tables.values())) for name in names]
    parts = ["\n".join(lines) + "\n"] if lines else []
    if tables:
        parts.append(_table(("figure", " | ".join(tables)), rows, columns=1 + len(tables)))
    return "\n".join(parts)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value)


def _table(heads: tuple[str, str], rows: Any, columns: int = 2) -> str:
    lines = [f"| {heads[0]} | {heads[1]} |", "|" + " --- |" * columns]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)]) + "\n"
