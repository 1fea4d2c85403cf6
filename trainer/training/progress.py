"""How a training shows how far it is: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from spineone_core import strict_json

# Rates are those of the latest steps: the first ones are slow, and a resumed run may be on another machine.
RECENT_STEPS = 50
# Seconds between lines where there is no terminal.
LINE_EVERY_S = 30.0
_GIB = 2**30


class Pace:
    """How fast the latest steps were, and what memory of the GPU they took at most.

    Parameters
    ----------
    batch
        Exams of a step, over all processes.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self.batch, self.device = batch, device
        self._recent: deque[float] = deque(maxlen=RECENT_STEPS)

    def add(self, seconds: float) -> None:
        """Take in a step."""
        self._recent.append(seconds)

    def figures(self, steps_left: int) -> dict[str, float]:
        """``exams_per_s``, ``minutes_left`` and, on a GPU, ``gpu_memory_gib``: the most that torch held since the start."""
        per_step = max(1e-9, sum(self._recent) / max(1, len(self._recent)))
        found = {
            "exams_per_s": round(self.batch / per_step, 2),
            "minutes_left": round(per_step * steps_left / 60, 1),
        }
        if self.device.type == "cuda":
            found["gpu_memory_gib"] = round(torch.cuda.max_memory_allocated(self.device) / _GIB, 2)
        return found


class Shown:
    """The steps of a run as they are done; a context manager. With ``quiet`` nothing is shown."""

    def __init__(
        self, name: str, done: int, total: int, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total, self.quiet, self._clock, self._last = total, quiet, clock, clock()
        self._bar: Progress | None = None
        if not quiet and sys.stdout.isatty():
            columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
            self._bar = Progress(*columns)
            self._task = self._bar.add_task(name, completed=done, total=total, said="")

    def __enter__(self) -> Shown:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, number: int, loss: float, figures: dict[str, float]) -> None:
        """Show that so many steps are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=number, said=said(loss, figures))
        elif not self.quiet and self._clock() - self._last >= LINE_EVERY_S:
            self._last = self._clock()
            print(strict_json.dumps({"step": number, "of": self.total, "loss": loss, **figures}), flush=True)

    def line(self, text: str) -> None:
        """Show a line of the log where there is no bar."""
        if self._bar is None and not self.quiet:
            print(text, flush=True)


def said(loss: float, figures: dict[str, float]) -> str:
    """The figures of `Pace` in words."""
    parts = [f"loss {loss:.3f}", f"{figures['exams_per_s']:g} exams/s", f"{figures['minutes_left']:g} min left"]
    if "gpu_memory_gib" in figures:
        parts.append(f"{figures['gpu_memory_gib']:g} GiB GPU memory")
    return ", ".join(parts)
