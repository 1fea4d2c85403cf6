"""The table of gradings: what is read, and what is wrong in it by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from spineone_core.anatomy import DISCS, UPPER_DISC
from trainer.datasets.gradings import DiscGrading, read_gradings
from trainer.datasets.tables import DatasetError

NONE = "modic=0;up=0;low=0;listh=0;hern=0;narrow=0;bulge=0"


def write_gradings(path: Path, rows: dict[str, dict[str, tuple[object, str]]]) -> Path:
    """A table of gradings: study UID -> level -> Pfirrmann grade and raw signs; other levels are empty."""
    levels = (UPPER_DISC, *DISCS)
    lines = [",".join(["study_uid", *(f"{kind}_{level}" for level in levels for kind in ("pfirrmann", "raw"))])]
    for uid, known in rows.items():
        cells = [str(cell) for level in levels for cell in known.get(level, ("", ""))]
        lines.append(",".join([uid, *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_read__grades_and_signs_by_study_and_level(tmp_path: Path) -> None:
    raw = "modic=2;up=1;low=0;listh=0;hern=1;narrow=1;bulge=0"
    rows = {"1.2": {"L4-L5": (4, raw), "T12-L1": (1, NONE), "L5-S1": ("", "modic=0;up=;bulge=1")}}
    found = read_gradings(write_gradings(tmp_path / "t.csv", rows))["1.2"]
    assert set(found) == {"T12-L1", "L4-L5", "L5-S1"}
    assert found["L4-L5"].pfirrmann == 4
    assert found["L4-L5"].signs == {
        "modic": 2,
        "upper_endplate": 1,
        "lower_endplate": 0,
        "listhesis": 0,
        "herniation": 1,
        "narrowing": 1,
        "bulging": 0,
    }
    # An empty cell is unknown, not absent.
    assert found["L5-S1"] == DiscGrading(None, {"modic": 0, "bulging": 1})


@pytest.mark.parametrize(
    ("cells", "message"),
    [((6, NONE), "study 1.2, L1-L2: Pfirrmann grade '6'"), ((2, "nodules=1"), "L1-L2: unknown sign 'nodules'")],
)
def test_read__names_what_is_malformed(tmp_path: Path, cells: tuple[object, str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_gradings(write_gradings(tmp_path / "t.csv", {"1.2": {"L1-L2": cells}}))


def test_read__names_a_missing_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("study_uid\n1.2\n")
    with pytest.raises(DatasetError, match="no column pfirrmann_L1-L2"):
        read_gradings(tmp_path / "t.csv")
