"""Tables and figures as Markdown, CSV and HTML: the paper's figure, ours, the difference, the interval."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.reproduce.scores import Score

EMPTY = "–"


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell: what the paper prints and what we measured; None where it prints nothing or nothing was measured."""

    paper: float | None
    ours: Score | None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's; None if one of them is missing."""
        return None if self.paper is None or self.ours is None else self.ours.value - self.paper


@dataclass(frozen=True, slots=True)
class Line:
    """A row: its label cells, its figures, and why something is missing or left out."""

    labels: tuple[str, ...]
    figures: tuple[Figure, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """``labels`` and ``figures`` head the columns; ``spread`` says what is in brackets, ``beside`` what ours stand beside.

    ``digits`` follow the decimal point.
    """

    labels: tuple[str, ...]
    figures: tuple[str, ...]
    lines: tuple[Line, ...]
    caption: str = ""
    spread: str = "95 %"
    beside: str = "paper"
    digits: int = 3


@dataclass(frozen=True, slots=True)
class Item:
    """A table or figure of the paper. Its files begin with ``name``; ``pictures`` are PNG bytes by the end of their file name."""

    name: str
    heading: str
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    pictures: dict[str, bytes] = field(default_factory=dict)


def write(item: Item, title: str, folder: Path) -> list[Path]:
    """Write ``NAME.md``, ``NAME.csv``, ``NAME.html`` and the pictures; each of them has the title."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {f"{item.name}-{end}.png": data for end, data in item.pictures.items()}
    files[f"{item.name}.md"] = as_markdown(item, title).encode()
    files[f"{item.name}.csv"] = as_csv(item, title).encode()
    files[f"{item.name}.html"] = as_html(item, title).encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def as_markdown(item: Item, title: str) -> str:
    """The item as Markdown; the pictures are linked by their file names."""
    parts = [f"# {item.heading}", f"**{title}**"]
    for table in item.tables:
        parts.append(_markdown_table(table))
    parts += [f"![{item.heading}]({item.name}-{end}.png)" for end in item.pictures]
    if item.notes:
        parts.append("\n".join(f"- {note}" for note in item.notes))
    return "\n\n".join(parts) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [f"{table.caption}\n"] if table.caption else []
    lines.append(
        _piped(
            [*table.labels, *(f"{name}: {table.beside} → ours (difference) [{table.spread}]" for name in table.figures)]
        )
    )
    lines.append(_piped(["---"] * (len(table.labels) + len(table.figures))))
    for line in table.lines:
        cells = [_cell(figure, table.digits) for figure in line.figures]
        if line.why:
            cells[0] += f" {line.why}"
        lines.append(_piped([*line.labels, *cells]))
    return "\n".join(lines)


def _piped(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _cell(figure: Figure, digits: int) -> str:
    paper, ours, difference, interval = _texts(figure, digits)
    if figure.ours is None:
        return f"{paper} → {EMPTY}"
    between = f" ({difference})" if difference != EMPTY else ""
    return f"{paper} → {ours}{between} {interval}"


def _texts(figure: Figure, digits: int) -> tuple[str, str, str, str]:
    """The texts of paper, ours, difference and interval."""
    paper = EMPTY if figure.paper is None else f"{figure.paper:.{digits}f}"
    if figure.ours is None:
        return paper, EMPTY, EMPTY, EMPTY
    difference = EMPTY if figure.difference is None else f"{figure.difference:+.{digits}f}"
    interval = f"[{figure.ours.low:.{digits}f}, {figure.ours.high:.{digits}f}]"
    return paper, f"{figure.ours.value:.{digits}f}", difference, interval


def as_csv(item: Item, title: str) -> str:
    """One line for each figure, below a line with the title."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([f"# {title}"])
    writer.writerow(["item", "row", "figure", "paper", "ours", "difference", "low", "high", "note"])
    for table in item.tables:
        for line in table.lines:
            for name, figure in zip(table.figures, line.figures, strict=True):
                ours = figure.ours
                values = [None, None, None] if ours is None else [ours.value, ours.low, ours.high]
                numbers = [figure.paper, values[0], figure.difference, *values[1:]]
                cells = ["" if number is None else f"{number:.5f}" for number in numbers]
                writer.writerow([item.name, " ".join(filter(None, line.labels)), name, *cells, line.why])
    return buffer.getvalue()


_STYLE = """body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:90rem;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .5rem;border-bottom:1px solid #d8dee4;text-align:right;vertical-align:top}
th{background:#f3f5f7}td.label,th.label{text-align:left;overflow-wrap:anywhere}td.figure{white-space:nowrap}
td.figure,th.figure{border-left:1px solid #d8dee4}small{display:block;color:#57606a}
.title{font-weight:600;background:#fff6d6;padding:.6rem .8rem;border-left:4px solid #d9a400}
img{max-width:100%}.scroll{overflow-x:auto}.quiet{color:#57606a}"""


def as_html(item: Item, title: str) -> str:
    """The item as an HTML page; its pictures are files beside it."""
    body = [f"<h1>{html.escape(item.heading)}</h1>", f'<p class="title">{html.escape(title)}</p>']
    body += [_html_table(table) for table in item.tables]
    body += [f'<p><img src="{item.name}-{end}.png" alt="{html.escape(item.heading)}"></p>' for end in item.pictures]
    if item.notes:
        body.append("<ul>" + "".join(f"<li>{html.escape(note)}</li>" for note in item.notes) + "</ul>")
    head = f'<meta charset="utf-8"><title>{html.escape(item.heading)}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(body)}</body></html>\n"


def _html_table(table: Table) -> str:
    """A cell for each figure, in two lines, so that the table fits a page."""
    labels = "".join(f'<th class="label">{html.escape(name)}</th>' for name in table.labels)
    legend = f"{html.escape(table.beside)} → ours<small>difference [{html.escape(table.spread)}]</small>"
    names = "".join(f'<th class="figure">{html.escape(name)}<br>{legend}</th>' for name in table.figures)
    rows = "".join(_html_line(line, table.digits) for line in table.lines)
    caption = f"<h2>{html.escape(table.caption)}</h2>" if table.caption else ""
    remarks = '<th class="label"></th>' if any(line.why for line in table.lines) else ""
    return f'{caption}<div class="scroll"><table><tr>{labels}{names}{remarks}</tr>{rows}</table></div>'


def _html_line(line: Line, digits: int) -> str:
    cells = [f'<td class="label">{html.escape(label)}</td>' for label in line.labels]
    for figure in line.figures:
        paper, ours, difference, interval = _texts(figure, digits)
        more = "" if figure.ours is None else f"<small>{difference} {interval}</small>"
        cells.append(f'<td class="figure"><span class="quiet">{paper}</span> → {ours}{more}</td>')
    if line.why:
        cells.append(f'<td class="label">{html.escape(line.why)}</td>')
    return f"<tr>{''.join(cells)}</tr>"
