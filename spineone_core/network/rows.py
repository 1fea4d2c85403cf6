"""Every detector that the paper measures, as named configs: the rows of Tables I, III and IV and the points of Fig. 7."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from spineone_core.network.config import NetworkConfig

# In the published order of Table I.
TWO_STAGE: tuple[tuple[str, str, str], ...] = (
    ("two-stage-hourglass52-resnet18", "hourglass", "hourglass52"),
    ("two-stage-hourglass104-resnet18", "hourglass", "hourglass104"),
    ("two-stage-hrnet-w32-resnet18", "hrnet", "hrnet_w32"),
    ("two-stage-hrnet-w48-resnet18", "hrnet", "hrnet_w48"),
)
ONE_STAGE: tuple[tuple[str, str, str], ...] = (
    ("densenet121-fpn", "fpn", "densenet121"),
    ("densenet169-fpn", "fpn", "densenet169"),
    ("fcos-resnet101", "fcos", "resnet101"),
    ("deeplabv3plus-resnet50", "deeplabv3plus", "resnet50"),
    ("deeplabv3plus-resnet101", "deeplabv3plus", "resnet101"),
    ("centernet-resnet101", "centernet", "resnet101"),
)
ABLATED: tuple[str, ...] = ("resnet50", "resnet101")
SLICES: tuple[int, ...] = (3, 5, 7, 9, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One training of the paper. ``association`` is OA, which changes the loss only; ``table`` is I, III, IV or Fig. 7."""

    name: str
    table: str
    network: NetworkConfig
    association: bool

    @property
    def digest(self) -> str:
        """SHA-256 of everything but name and table: rows with the same digest are the same training."""
        content = {"network": self.network.to_json(), "association": self.association}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def batch(self) -> int:
        """The paper's batch size: 64 without attention, 16 with it (Section IV-C)."""
        return 16 if self.network.pam or self.network.cam else 64

    @property
    def learning_rate(self) -> float:
        """The paper's learning rate: .04 without attention, .01 with it."""
        return 0.01 if self.batch == 16 else 0.04


def table_one() -> list[Row]:
    """The sixteen detectors of Table I, in its order."""
    rows = [_two_stage(*entry) for entry in TWO_STAGE]
    rows += [_one_stage(f"one-stage-{name}", a, b) for name, a, b in ONE_STAGE]
    rows += [
        _one_stage(f"spineone-{name}", a, b, ocpc=True, pam=True, cam=True, association=True)
        for name, a, b in ONE_STAGE
    ]
    return rows


def table_three() -> list[Row]:
    """OCPC, PAM, CAM and OA on DeepLabv3+ with ResNet50 and 101, in the table's order."""
    marks = [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (1, 1, 0, 0),
        (1, 0, 1, 0),
        (1, 1, 1, 0),
        (0, 1, 1, 0),
        (1, 0, 0, 1),
        (1, 1, 1, 1),
    ]
    return [_ablation("III", backbone, *map(bool, mark)) for backbone in ABLATED for mark in marks]


def table_four() -> list[Row]:
    """Pairs without and with the offset, for OCPC alone and with both attention modules; OA needs the offset and is left out."""
    rows = []
    for backbone in ABLATED:
        for attention in (False, True):
            row = _ablation("IV", backbone, True, attention, attention, False)
            still = replace(row.network, offset=False)
            rows += [replace(row, name=f"{row.name}-no-offset", network=still), row]
    return rows


def figure_seven() -> list[Row]:
    """3 to 11 slices with OCPC, without attention and OA."""
    rows = []
    for backbone in ABLATED:
        row = _ablation("Fig. 7", backbone, True, False, False, False)
        for n in SLICES:
            rows.append(replace(row, name=f"{row.name}-slices{n}", network=replace(row.network, slices=n)))
    return rows


def all_rows() -> list[Row]:
    """Every row and point, including repeated trainings."""
    return [*table_one(), *table_three(), *table_four(), *figure_seven()]


def distinct_rows() -> list[Row]:
    """The forty different trainings, each under its first name."""
    found: dict[str, Row] = {}
    for row in all_rows():
        found.setdefault(row.digest, row)
    return list(found.values())


def seven_categories() -> Row:
    """The best detector with a channel for each of the competition's seven categories: no row of the paper (reading 3)."""
    best = next(row for row in table_one() if row.name == "spineone-deeplabv3plus-resnet101")
    return replace(best, name=f"{best.name}-categories", network=replace(best.network, heatmap="categories"))


def find_row(name: str) -> Row:
    """The row of a name; raises ``ValueError`` that says what is allowed."""
    known = [*all_rows(), seven_categories()]
    rows = {row.name: row for row in reversed(known)}
    if name not in rows:
        raise ValueError(f"unknown detector {name!r}; allowed: {', '.join(dict.fromkeys(r.name for r in known))}")
    return rows[name]


def _two_stage(name: str, architecture: str, backbone: str) -> Row:
    network = NetworkConfig(
        architecture=architecture, backbone=backbone, heatmap="levels", pam=False, cam=False, layers="cited"
    )
    return Row(name=name, table="I", network=network, association=False)


def _one_stage(
    name: str,
    architecture: str,
    backbone: str,
    *,
    table: str = "I",
    ocpc: bool = False,
    pam: bool = False,
    cam: bool = False,
    association: bool = False,
) -> Row:
    heatmap = "ocpc" if ocpc else "conventional"
    network = NetworkConfig(
        architecture=architecture, backbone=backbone, heatmap=heatmap, pam=pam, cam=cam, layers="cited"
    )
    return Row(name=name, table=table, network=network, association=association)


def _ablation(table: str, backbone: str, ocpc: bool, pam: bool, cam: bool, association: bool) -> Row:
    marks = {"ocpc": ocpc, "pam": pam, "cam": cam, "oa": association}
    parts = [mark for mark, on in marks.items() if on] or ["plain"]
    name = "-".join(["deeplabv3plus", backbone, *parts])
    return _one_stage(
        name, "deeplabv3plus", backbone, table=table, ocpc=ocpc, pam=pam, cam=cam, association=association
    )


BUILDERS: dict[str, NetworkConfig] = {row.name: row.network for row in table_one()}
