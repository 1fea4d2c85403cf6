"""deploy/orthanc/route.py: one series that the node refuses holds up no other, and nothing is forgotten without a word."""

from __future__ import annotations

import importlib.util
import json
import urllib.error
from email.message import Message
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "orthanc" / "route.py"
_spec = importlib.util.spec_from_file_location("route", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
route = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(route)


class Orthanc:
    """Answers like Orthanc: three stable series, of which the node refuses some; all fail while the node is down."""

    def __init__(self, refused: set[str], *, modality: str = "MR") -> None:
        self.refused, self.is_down, self.modality = refused, False, modality
        self.sent: list[str] = []
        self.tried: list[str] = []

    def ask(self, path: str, body: str | None = None) -> Any:
        if path.startswith("/changes"):
            since = int(path.split("since=")[1].split("&")[0])
            changes = [{"ChangeType": "StableSeries", "ID": name, "Seq": n} for n, name in enumerate("abc", start=1)]
            return {"Changes": [change for change in changes if change["Seq"] > since], "Done": True}
        if path.startswith("/series/"):
            return {"MainDicomTags": {"Modality": self.modality, "SeriesInstanceUID": f"1.2.{path[-1]}"}}
        if path.endswith("/echo"):
            return self._fail(self.is_down)
        assert body is not None
        self.tried.append(body)
        self._fail(self.is_down or body in self.refused)
        self.sent.append(body)
        return {}

    def _fail(self, is_so: bool) -> dict[str, Any]:
        if is_so:
            raise urllib.error.HTTPError("http://x", 500, "failed", Message(), None)
        return {}


class Clock:
    """The time of day, which stands still until it is set."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def strftime(self, text: str) -> str:
        return "now"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(route, "time", clock)
    return clock


def of(orthanc: Orthanc, state: Path, attempts: int = 3) -> Any:
    return route.Route(orthanc, "spineone", state, attempts, 30.0)


def test_route__goes_on_past_a_refused_series_and_reports_it(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    orthanc, state = Orthanc({"b"}), tmp_path / "last"
    one = of(orthanc, state)
    assert one.once()
    assert orthanc.sent == ["a", "c"]
    assert "not taken 1.2.b, attempt 1 of 3" in capsys.readouterr().out
    # Another process goes on with what waits, and gives up after the last attempt, with a line that stays.
    for _ in range(4):
        clock.now += 1000
        of(orthanc, state).once()
    assert orthanc.tried.count("b") == 3
    assert "GIVEN UP 1.2.b" in capsys.readouterr().out
    assert (tmp_path / "last.refused").read_text() == "now 1.2.b b\n"
    assert json.loads(state.read_text()) == {"last": 3, "waiting": {}}


def test_route__a_series_that_is_taken_later_waits_no_more(clock: Clock, tmp_path: Path) -> None:
    orthanc = Orthanc({"b"})
    one = of(orthanc, tmp_path / "last")
    one.once()
    orthanc.refused = set()
    one.once()
    assert orthanc.sent == ["a", "c"], "it is not due yet"
    clock.now += 1000
    one.once()
    assert orthanc.sent == ["a", "c", "b"]
    assert not (tmp_path / "last.refused").exists()


def test_route__while_the_node_is_down_everything_waits(tmp_path: Path) -> None:
    orthanc = Orthanc(set())
    orthanc.is_down = True
    one = of(orthanc, tmp_path / "last")
    for _ in range(10):
        with pytest.raises(route.NodeDownError):
            one.once()
    assert one.last == 0
    orthanc.is_down = False
    one.once()
    assert orthanc.sent == ["a", "b", "c"]


def test_route__takes_the_state_of_the_script_before_and_sends_only_mr(tmp_path: Path) -> None:
    state = tmp_path / "last"
    state.write_text("2")
    orthanc = Orthanc(set())
    of(orthanc, state).once()
    assert orthanc.sent == ["c"]
    other = Orthanc(set(), modality="SR")
    of(other, tmp_path / "other").once()
    assert other.tried == []
