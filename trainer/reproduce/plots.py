"""Plots of numbers (Figs. 6, 7 and 8), drawn by matplotlib, which the extra ``train`` installs."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.reproduce.scores import Score

MISSING = "matplotlib is not installed, so there is no plot (pip install 'spineone-node[train]')"


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def new_figure(columns: int, rows: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure without a window, and its axes as a (rows, columns) array."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def png(figure: Any, title: str) -> bytes:
    """The figure as PNG, with the title above in as many lines as it needs. The same figure gives the same bytes."""
    figure.suptitle(textwrap.fill(title, int(13 * figure.get_figwidth())), fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()


def curves(
    title: str,
    panels: Mapping[str, Mapping[str, Mapping[int, Score]]],
    x: str,
    y: str,
    paper: Mapping[str, Mapping[str, Mapping[int, float]]],
) -> bytes:
    """Panels of curves with their intervals; open circles in the colour of a curve are the paper's points."""
    figure, axes = new_figure(len(panels), 1, (5.2 * len(panels), 4.2))
    for place, (name, lines) in zip(axes[0], panels.items(), strict=True):
        for label, points in lines.items():
            xs = sorted(points)
            values = [points[i].value for i in xs]
            (line,) = place.plot(xs, values, marker=".", label=label)
            low, high = [points[i].low for i in xs], [points[i].high for i in xs]
            place.fill_between(xs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
            printed = paper.get(name, {}).get(label, {})
            place.plot(list(printed), list(printed.values()), "o", mfc="none", color=line.get_color())
        place.set(title=name, xlabel=x, ylabel=y, ylim=(0, 1.02))
        place.grid(alpha=0.3)
        place.legend(fontsize=7)
    return png(figure, title)


def bars(title: str, groups: Sequence[str], values: Sequence[int]) -> bytes:
    """A bar for each count."""
    return png(bar_figure(groups, values), title)


def bar_figure(groups: Sequence[str], values: Sequence[int]) -> Any:
    """A bar for each count, with the count above it."""
    figure, axes = new_figure(1, 1, (5.2, 4.0))
    drawn = axes[0][0].bar(groups, values, color=["#4878a8", "#d17a3a"] * (len(groups) // 2))
    axes[0][0].bar_label(drawn)
    axes[0][0].margins(y=0.12)  # room for the label of the tallest bar inside the frame
    return figure
