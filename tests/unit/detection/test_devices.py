"""`torch.compile` as an option of the detector. Compiling takes long, so that test is no part of `make test`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from spineone_core.detection import devices
from spineone_core.detection.detector import Detector
from spineone_core.detection.devices import DeviceError, compile_network
from spineone_core.detection.model_package import load_package
from spineone_core.detection.views import InferenceOptions, view_maps
from spineone_core.network.config import STRUCTURES
from spineone_core.network.spineone import SpineOne
from tests.fakes.model import write_tiny_model
from tests.fakes.tiny_runs import tiny_recipe


@pytest.mark.campaign
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not devices.has_compiler(torch.device("cpu")), reason="no C++ compiler")
def test_compiled__gives_the_same_maps_for_every_size() -> None:
    torch.manual_seed(0)
    network = SpineOne(tiny_recipe().network).eval()
    for name, value in network.named_parameters():
        if name.endswith("gamma"):  # attention takes part
            value.data.fill_(0.5)
    pictures = [torch.randn(1, 1, *size) for size in ((64, 96), (128, 64))]
    plain = [view_maps(network, picture) for picture in pictures]
    compile_network(network, torch.device("cpu"))
    for picture, wanted in zip(pictures, plain, strict=True):
        got = view_maps(network, picture)
        for s in STRUCTURES:
            for one, other in zip(got[s], wanted[s], strict=True):
                assert torch.allclose(one, other, atol=1e-4)


def test_compiled__without_a_compiler_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(DeviceError, match=r"compiled .* needs a C\+\+ compiler"):
        Detector(load_package(write_tiny_model(tmp_path)), device="cpu", options=InferenceOptions(compiled=True))
