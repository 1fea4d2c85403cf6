"""The card says of every output how it is scaled, and what its undecided band promises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spineone_core.anatomy import Structure
from spineone_core.detection.calibration import Calibration
from spineone_core.detection.model_package import load_package
from spineone_core.network.grading import GradingConfig
from trainer.evaluation.model_card import model_card


@pytest.mark.parametrize(
    ("band", "words"),
    [
        ("class", "at most 10 % of normal keypoints are called degenerative"),
        (
            "decided",
            "of the decided keypoints of a true class, at most 10 % of those calibrated on were called the other",
        ),
    ],
)
def test_card__says_what_the_band_promises(band: str, words: str) -> None:
    manifest = replace(
        load_package().manifest,
        calibration={
            "disc": Calibration(slope=2.0, undecided=(0.4, 0.6), error_rate=0.1, band=band),
            "disc.narrowing": Calibration(intercept=0.5),
        },
        grading={"disc": GradingConfig(structure=Structure.DISC)},
    )
    card = model_card(manifest, "ab" * 32)
    assert f"- disc: logit x 2 + 0; no class from 0.40 to 0.60; {'by split' * (band == 'class')}" in card
    assert words in card
    assert "- disc.narrowing: reported, logit x 1 + 0.5." in card
    assert "- The class of each disc comes from grading networks" in card


def test_calibration__knows_two_bands() -> None:
    with pytest.raises(ValueError, match="band 'wide'"):
        Calibration(band="wide")
    assert Calibration.from_json({"slope": 2.0}).band == "class"


def test_card__says_how_the_domain_check_was_trained() -> None:
    training = {"data": "phantoms", "seed": 3, "domain": {"steps": 600, "begun_with": "ab" * 32}}
    card = model_card(replace(load_package().manifest, training=training), "ab" * 32)
    assert "| seed | 3 |" in card
    assert "| domain check, steps | 600 |" in card
    assert f"| domain check, begun_with | {'ab' * 32} |" in card
