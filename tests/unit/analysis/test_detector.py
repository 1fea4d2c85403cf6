"""The detector as the settings want it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.analysis.detector import load_detector
from dicom_node.errors import ModelError
from dicom_node.settings.node import NodeSettings
from spineone_core.detection.model_package import load_package, save_package


def settings_of(base: NodeSettings, model: object, grade: int) -> NodeSettings:
    return NodeSettings.model_validate(
        {
            "data_dir": base.data_dir,
            "model": {"path": str(model), "device": "cpu"},
            "results": {"disc_degenerative_from_grade": grade},
        }
    )


def test_load_detector__takes_the_sites_rule(node_settings: NodeSettings) -> None:
    assert load_detector(settings_of(node_settings, "default", 4)).rule.disc_from_grade == 4  # type: ignore[attr-defined]


def test_load_detector__a_rule_that_the_model_cannot_follow_is_named(
    node_settings: NodeSettings, tmp_path: Path
) -> None:
    shipped = load_package()
    save_package(
        tmp_path / "plain", shipped.network, shipped.manifest, write_card=lambda manifest, weights: "# card of a test"
    )
    with pytest.raises(ModelError, match=r"plain: it says no Pfirrmann grade.*from grade 4 on"):
        load_detector(settings_of(node_settings, tmp_path / "plain", 4))
