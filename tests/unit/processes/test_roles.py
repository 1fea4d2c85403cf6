"""What every process of the node does first."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.processes import roles
from dicom_node.settings.node import NodeSettings
from dicom_node.system.clock import clock
from spineone_core.imaging import children


def test_processes__share_the_place_of_decoding(
    tmp_path: Path, node_settings: NodeSettings, database: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_shared", None)
    config = tmp_path / "node.toml"
    config.write_text("[retention]\ndisk_reserve_gb = 0\n")
    for name in ("listener", "worker"):
        _, opened, stop = roles._begin(config, name)
        opened.close()
        stop.set()
        assert children._shared == node_settings.data_dir / "decoding.lock"
    clock.set(None)
