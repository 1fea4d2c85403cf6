"""The detector's network in forms that other programs run: ONNX, and a program of ``torch.export``.

Both take ``images`` (B, slices, H, W), z-scored, H and W multiples of 32 from 64 to 2048, B up to 64. They give the maps of
`spineone_core.network.spineone.BranchOutput` as ``disc_logits``, ``disc_offsets``, ``vertebra_logits`` and
``vertebra_offsets``. Preprocessing and what becomes of the maps stay in this package.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spineone_core.anatomy import Structure
from spineone_core.network.config import SIZE_MULTIPLE, STRUCTURES, NetworkConfig
from spineone_core.network.spineone import BranchOutput, SpineOne

ONNX, TORCH_EXPORT = "network.onnx", "network.pt2"
_LARGEST_BATCH, _LARGEST_SIDE = 64, 2048
# The largest difference of a map from the network's own that `check_onnx` takes for the same.
TOLERANCE = 1e-3


class ExportError(Exception):
    """A network cannot be exported, or not on this machine; the message says why."""


class _FlatMaps(nn.Module):
    """The maps of both structures as a tuple, in the order of `output_names`."""

    def __init__(self, network: SpineOne) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(images)
        return tuple(maps for s in STRUCTURES for maps in outputs[s][:2] if maps is not None)


def output_names(config: NetworkConfig) -> list[str]:
    """The names of the outputs in their order; a network without offsets has no offsets there either."""
    kinds = ("logits", "offsets") if config.offset else ("logits",)
    return [f"{structure.value}_{kind}" for structure in STRUCTURES for kind in kinds]


def export(network: SpineOne) -> torch.export.ExportedProgram:
    """The network, in evaluation mode on the CPU, as a program for any batch and any size.

    Raises
    ------
    ExportError
        If it is a two-stage detector, whose classifier looks at crops that this package cuts.
    """
    if network.config.two_stage:
        raise ExportError(
            "a two-stage detector cannot be exported: its second network needs crops at the first one's points"
        )
    batch = torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)
    sides = [torch.export.Dim(n, min=2, max=_LARGEST_SIDE // SIZE_MULTIPLE) for n in ("rows_32", "columns_32")]
    example = torch.zeros(2, network.config.slices, 3 * SIZE_MULTIPLE, 4 * SIZE_MULTIPLE)
    shapes = {"images": {0: batch, 2: SIZE_MULTIPLE * sides[0], 3: SIZE_MULTIPLE * sides[1]}}
    return torch.export.export(_FlatMaps(network).eval(), (example,), dynamic_shapes=shapes)


def torch_export_bytes(program: torch.export.ExportedProgram) -> bytes:
    """The program as a file that ``torch.export.load`` reads."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def onnx_bytes(program: torch.export.ExportedProgram, config: NetworkConfig) -> bytes:
    """The program as an ONNX model.

    Raises
    ------
    ExportError
        If the extra ``onnx`` is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError("ONNX needs the extra onnx: pip install 'spineone-node[onnx]'") from error
    made: Any = torch.onnx.export(
        program, dynamo=True, verbose=False, input_names=["images"], output_names=output_names(config)
    )
    content: bytes = made.model_proto.SerializeToString()
    return content


class OnnxNetwork(nn.Module):
    """An ONNX model of `onnx_bytes` in the place of the network, run by onnxruntime on the CPU.

    Raises
    ------
    ExportError
        If onnxruntime is not installed or cannot read the model.
    """

    def __init__(self, content: bytes, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError("ONNX needs the extra onnx: pip install 'spineone-node[onnx]'") from error
        try:
            self._session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes have no common name
            raise ExportError(f"onnxruntime cannot read the model: {error}") from error

    def forward(self, images: Tensor) -> dict[Structure, BranchOutput]:
        """The maps of both structures, as `SpineOne` gives them."""
        names = output_names(self.config)
        maps = self._session.run(names, {"images": np.ascontiguousarray(images.float().cpu().numpy())})
        found = {name: torch.from_numpy(values) for name, values in zip(names, maps, strict=True)}
        return {s: BranchOutput(found[f"{s.value}_logits"], found.get(f"{s.value}_offsets")) for s in STRUCTURES}


@torch.inference_mode()
def check_onnx(network: SpineOne, content: bytes) -> float:
    """The largest difference between the maps of the network and of its ONNX model, on noise of another size.

    Raises
    ------
    ExportError
        If it is above `TOLERANCE`, or as `OnnxNetwork`.
    """
    noise = torch.from_numpy(
        np.random.default_rng(0).normal(size=(1, network.config.slices, 160, 96)).astype(np.float32)
    )
    own, other = network(noise), OnnxNetwork(content, network.config)(noise)
    pairs = [(a, b) for s in STRUCTURES for a, b in zip(own[s][:2], other[s][:2], strict=True) if a is not None]
    largest = max(float((a - b).abs().max()) for a, b in pairs)
    if not largest <= TOLERANCE:
        raise ExportError(f"the ONNX model differs from the network by {largest:g}, more than {TOLERANCE:g}")
    return largest
