"""The settings of a run as ``config.json`` keeps them: which of them decide its outcome, and what differs between two."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from trainer.training.options import RunOptions

_MISSING = object()


def machine(options: RunOptions, processes: int) -> dict[str, Any]:
    """How the run uses the machine."""
    backbone = options.backbone
    return {
        "precision": options.precision,
        "micro_batches": options.micro_batches,
        "processes": processes,
        "sync_bn": options.sync_bn,
        "backbone": None if backbone is None else str(backbone),
        "backbone_sha256": None if backbone is None else hashlib.sha256(backbone.read_bytes()).hexdigest(),
    }


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a ``config.json`` that decide what is learned, by name, as JSON has them.

    Of the machine, that is the precision and the number of samples that a batch normalisation sees together: two processes
    may go on with what one process with two micro-batches began. Settings that an older version did not write down are left
    out.
    """
    used, origin = config["machine"], config.get("begun_with")
    together = int(config["recipe"]["batch"]) // (int(used["micro_batches"]) * int(used["processes"]))
    if used.get("sync_bn"):
        together *= int(used["processes"])
    values = {
        "recipe": config["recipe"],
        "seed": config["seed"],
        "training data": config["data_sha256"],
        "precision": used["precision"],
        "samples normalised together": together,
    }
    if origin is not None:
        values["begun with the package"] = origin[0]["digest"] if origin else None
    if "backbone_sha256" in used:
        values["backbone weights"] = used["backbone_sha256"]
    # Through JSON: tuples are lists then.
    return dict(_flat(json.loads(json.dumps(values, default=str))))


def changed_settings(begun: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """One line for each setting that differs between two ``config.json``, as ``recipe.batch: 8, now 16``.

    A setting that the first does not know, as an older version wrote it, is not compared.
    """
    old, new = deciding(begun), deciding(given)
    found = [name for name, value in old.items() if new.get(name, _MISSING) != value]
    return [f"{name}: {shown(old[name])}, now {shown(new.get(name, _MISSING))}" for name in found]


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def shown(value: Any) -> str:
    """A setting as text for people; of a hash, its first digits."""
    if value is _MISSING:
        return "not known"
    text = json.dumps(value)
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else text
