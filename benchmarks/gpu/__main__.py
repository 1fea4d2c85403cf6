"""Everything that a GPU is to be measured for, in one command of at most six minutes.

    python -m benchmarks.gpu --out DIR [--device cuda] [--small] [--minutes 6]

It needs Python 3.12, torch 2.11, numpy, scipy, safetensors and Pillow (which paints the phantoms), and nothing else of what the
node needs: no pydicom. Where one is missing, the command says which wheels to carry along. It writes ``gpu.json`` and ``gpu.md``
after each part, says of a part for which no time was left that it was not measured, and exits with status 1 where a check
fails. ``--small`` takes tiny networks, for a test on a CPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

# Module -> wheel.
NEEDED = {name: name for name in ("torch", "numpy", "scipy", "safetensors")} | {"PIL": "pillow"}


def missing() -> list[str]:
    """The wheels of what must be there and is not."""
    return [wheel for module, wheel in NEEDED.items() if importlib.util.find_spec(module) is None]


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--minutes", type=float, default=6.0, help="no part begins when so much time is gone")
    parser.add_argument("--workers", default="auto", help="processes that prepare samples")
    options = parser.parse_args(arguments)
    if absent := missing():
        print(f"missing here: {', '.join(absent)}; carry the wheels: pip download {' '.join(absent)}")
        return 2

    import torch

    from benchmarks.gpu import checks, sizes, speed
    from benchmarks.gpu.table import JUDGED, Row, Table
    from spineone_core.detection.devices import choose_device

    device = choose_device(options.device)
    if options.small:
        torch.set_num_threads(1)
    chosen = sizes.small() if options.small else sizes.full()
    parts: dict[str, Callable[[], list[Row]]] = {
        "checks": lambda: checks.check_rows(device),
        "findings": lambda: checks.findings_rows(device, chosen.exams, checks.ways(chosen)),
        "paper's detector": lambda: speed.paper_rows(chosen, device),
        "shipped model": lambda: speed.shipped_rows(chosen, device),
        "stages": lambda: speed.stages_rows(chosen, device),
        "attention": lambda: speed.attention_rows(chosen, device),
        "training": lambda: speed.training_rows(chosen, device, options.workers),
        # Compiling takes longest, so it comes last.
        "compiled": lambda: checks.compiled_rows(device) if chosen.whole else [],
    }
    table, began = Table(options.out, device), time.monotonic()
    for name, measure in parts.items():
        if time.monotonic() - began > 60 * options.minutes:
            table.add([Row(part=name, name="all of it", note="no time was left")])
            continue
        try:
            rows = measure()
        except Exception as error:  # one part that cannot run must not take the others along
            part = "findings" if name == "compiled" else name
            rows = [
                Row(
                    part=part,
                    name="all of it",
                    target="runs",
                    passed=False,
                    note=f"failed: {error!r}"[:300].replace("|", "/"),
                )
            ]
        if options.small:  # targets of speed are for the paper's sizes on a GPU
            rows = [row if row.part in JUDGED else replace(row, target="", passed=None) for row in rows]
        table.add(rows)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(table.markdown())
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
