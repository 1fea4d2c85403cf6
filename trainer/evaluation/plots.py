"""Plots of an evaluation as SVG, drawn by matplotlib, an optional dependency. The same input gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.evaluation.curves import Bin, RiskCoverage

MISSING = "Plots need matplotlib: pip install 'spineone-node[train]'"
_COLOURS = ("#0b62a3", "#c2570c", "#3a7d44", "#7a3e9d", "#5f6b7a")


class NoPlotsError(Exception):
    """matplotlib is not installed."""


def reliability_diagram(bins: Mapping[str, Sequence[Bin]]) -> bytes:
    """Observed against predicted share of degenerative for each structure; a larger dot stands for more keypoints."""
    figure = _figure(width=4.2)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    for colour, (name, found) in zip(_COLOURS, bins.items(), strict=False):
        predicted, observed = [b.predicted for b in found], [b.observed for b in found]
        axes.plot(predicted, observed, color=colour, linewidth=1.2, label=name)
        axes.scatter(predicted, observed, s=[12 + 2 * b.keypoints for b in found], color=colour, alpha=0.7)
    axes.set(xlabel="predicted probability of degenerative", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
    axes.legend(frameon=False, loc="upper left")
    return _svg(figure)


def risk_coverage_plot(curves: Mapping[str, RiskCoverage]) -> bytes:
    """The share of misses among the most confident keypoints, against the share of keypoints that are kept."""
    figure = _figure()
    axes = figure.add_subplot()
    for colour, (name, curve) in zip(_COLOURS, curves.items(), strict=False):
        axes.step(curve.coverage, curve.risk, where="post", color=colour, label=f"{name} (area {curve.area:.3f})")
    axes.set(xlabel="share of keypoints kept, most confident first", ylabel="missed by more than 6 mm", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left")
    return _svg(figure)


def pck_plot(curves: Mapping[str, Mapping[float, float]]) -> bytes:
    """PCK against distance (Fig. 8)."""
    figure = _figure()
    axes = figure.add_subplot()
    for colour, (name, curve) in zip(_COLOURS, curves.items(), strict=False):
        axes.plot(list(curve), list(curve.values()), marker="o", markersize=3, color=colour, label=name)
    axes.set(xlabel="distance, mm", ylabel="PCK", ylim=(0, 1.02))
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)


def epochs_plot(curves: Mapping[str, Mapping[float, float]], name: str) -> bytes:
    """A figure of several runs by epoch; after five runs the colours begin again, with broken lines."""
    figure = _figure()
    axes = figure.add_subplot()
    for number, (run, curve) in enumerate(curves.items()):
        colour, style = _COLOURS[number % len(_COLOURS)], ("-", "--", ":")[number // len(_COLOURS) % 3]
        axes.plot(list(curve), list(curve.values()), color=colour, linestyle=style, marker=".", markersize=4, label=run)
    axes.set(xlabel="epoch", ylabel=name)
    axes.legend(frameon=False)
    return _svg(figure)


def _figure(width: float = 5.6, height: float = 4.2) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NoPlotsError(MISSING) from error
    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "spineone", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
