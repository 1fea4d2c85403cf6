"""Position and channel attention (Fig. 3; DANet): the fast forms and the obvious references that they are tested against.

The obvious position attention holds a (HW) x (HW) map, 2.6 GB at 160 x 160 in fp32. The fast form never holds it: on the CPU it
takes the queries in chunks, on CUDA it uses scaled-dot-product attention. Both use scale 1 (no 1/sqrt(d)), as DANet does.
docs/attention.md has memory and time.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Bytes of one block of the attention map on the CPU. Only a few such blocks exist at a time, however many positions there are.
BLOCK_BYTES = 32 * 2**20


def position_attention(query: Tensor, key: Tensor, value: Tensor, chunk: int | None = None) -> Tensor:
    """softmax(Q K^T) V without the full map.

    Parameters
    ----------
    query, key
        (B, N, d) tokens.
    value
        (B, N, C) tokens.
    chunk
        Number of queries handled at a time on the CPU; None takes as many as fit into ``BLOCK_BYTES``.

    Returns
    -------
    (B, N, C)
    """
    # An exported program must hold for every size; the number of chunks would be that of the example.
    if query.is_cuda or torch.compiler.is_exporting():
        return _fused_attention(query, key, value)
    if query.is_meta:  # only work is counted
        chunk = query.shape[1]
    if chunk is None:
        row = query.shape[0] * key.shape[1] * query.element_size()
        chunk = max(16, BLOCK_BYTES // max(1, row))
    result: Tensor = _ChunkedAttention.apply(query, key, value, chunk)
    return result


def _fused_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled-dot-product attention. Its fused kernels need (B, heads, N, d) with one d, hence the single head and the zeros."""
    query, key = (F.pad(t, (0, value.shape[-1] - t.shape[-1])) for t in (query, key))
    mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)
    return mixed[:, 0]


class _ChunkedAttention(torch.autograd.Function):
    """Attention over blocks of queries. Backward computes each block of the map again from the log of its row sums.

    Blocks live in buffers that are made once. Freed and made again, they would leave holes in the heap as large as the
    whole map.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, chunk: int) -> Tensor:
        mixed = torch.empty_like(value)
        logs = torch.empty((*query.shape[:2], 1), device=query.device)  # fp32, like all sums over a row
        buffer, across = _buffer(query, key, chunk), key.transpose(1, 2)
        for start in range(0, query.shape[1], chunk):
            rows = slice(start, min(start + chunk, query.shape[1]))
            weights = torch.bmm(query[:, rows], across, out=_block(buffer, query[:, rows], key))
            largest = weights.amax(dim=-1, keepdim=True)
            total = weights.sub_(largest).exp_().sum(dim=-1, keepdim=True, dtype=torch.float32)
            mixed[:, rows] = torch.bmm(weights, value) / total
            logs[:, rows] = largest + total.log()
        ctx.chunk = chunk
        ctx.save_for_backward(query, key, value, mixed, logs)
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, mixed, logs = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        to_query, to_key, to_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        # The backward pass of softmax needs sum_j P_ij dP_ij, which is the product of output and gradient.
        products = (gradient * mixed).sum(dim=-1, keepdim=True, dtype=torch.float32)
        buffers = _buffer(query, key, ctx.chunk), _buffer(query, key, ctx.chunk)
        for start in range(0, query.shape[1], ctx.chunk):
            rows = slice(start, min(start + ctx.chunk, query.shape[1]))
            part, outer = query[:, rows], gradient[:, rows]
            weights = torch.bmm(part, key.transpose(1, 2), out=_block(buffers[0], part, key))
            weights.sub_(logs[:, rows]).exp_()
            to_value.baddbmm_(weights.transpose(1, 2), outer)
            slope = torch.bmm(outer, value.transpose(1, 2), out=_block(buffers[1], part, key))
            slope.sub_(products[:, rows]).mul_(weights)
            to_query[:, rows] = torch.bmm(slope, key)
            to_key.baddbmm_(slope.transpose(1, 2), part)
        return to_query, to_key, to_value, None


def _buffer(query: Tensor, key: Tensor, chunk: int) -> Tensor:
    """Room for one block of the map."""
    return query.new_empty(query.shape[0] * min(chunk, query.shape[1]) * key.shape[1])


def _block(buffer: Tensor, part: Tensor, key: Tensor) -> Tensor:
    """(B, rows of ``part``, N) in the buffer."""
    shape = (part.shape[0], part.shape[1], key.shape[1])
    return buffer[: shape[0] * shape[1] * shape[2]].view(shape)


def position_attention_reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The obvious form for tests, with the whole (N, N) map in memory."""
    energy = torch.einsum("bid,bjd->bij", query, key)
    return torch.einsum("bij,bjc->bic", energy.softmax(dim=-1), value)


def channel_attention(features: Tensor) -> Tensor:
    """softmax(rowmax(E) - E) X with E = X X^T over channels, computed in fp32 (reading 24).

    Parameters
    ----------
    features
        (B, C, H, W).
    """
    batch, channels = features.shape[:2]
    # Autocast does not know the meta device, on which work is only counted.
    device = "cpu" if features.is_meta else features.device.type
    with torch.autocast(device_type=device, enabled=False):
        flat = features.float().reshape(batch, channels, -1)  # (B, C, N)
        energy = flat @ flat.transpose(1, 2)  # (B, C, C)
        weights = torch.softmax(energy.amax(dim=-1, keepdim=True) - energy, dim=-1)
        mixed = weights @ flat
    return mixed.reshape(features.shape).to(features.dtype)


class PositionAttention(nn.Module):
    """PAM (Fig. 3a): ``gamma * attention(x) + x``; gamma starts at 0, query and key have C/8 channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.key = nn.Conv2d(channels, max(1, channels // 8), 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        query, key, value = (
            layer(features).flatten(2).transpose(1, 2).contiguous() for layer in (self.query, self.key, self.value)
        )  # (B, HW, C')
        mixed = position_attention(query, key, value).transpose(1, 2).reshape(features.shape)
        return self.gamma * mixed + features


class ChannelAttention(nn.Module):
    """CAM (Fig. 3b): ``gamma * attention(x) + x``; gamma starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        return self.gamma * channel_attention(features) + features


class DualAttention(nn.Module):
    """PAM(U) + CAM(U), only one of them, or U unchanged.

    Parameters
    ----------
    channels
        Channels of U (64 in the paper).
    pam, cam
        Which modules are there.
    reduction
        1 works at the resolution of U, as in the paper. With k > 1 the attention sees U averaged over k x k cells, and what it
        changes is upsampled and added. The shipped model uses this to save time on a CPU (the cost of PAM falls with k^4).
    """

    def __init__(self, channels: int, *, pam: bool, cam: bool, reduction: int = 1) -> None:
        super().__init__()
        self.reduction = reduction
        self.parts = nn.ModuleList()
        if pam:
            self.parts.append(PositionAttention(channels))
        if cam:
            self.parts.append(ChannelAttention())

    def forward(self, features: Tensor) -> Tensor:
        if not self.parts:
            return features
        if self.reduction == 1:
            return self._fuse(features)
        coarse = F.avg_pool2d(features, self.reduction, ceil_mode=True, count_include_pad=False)
        change = self._fuse(coarse) - coarse * len(self.parts)
        change = F.interpolate(change, size=features.shape[-2:], mode="bilinear", align_corners=False)
        return features * len(self.parts) + change

    def _fuse(self, features: Tensor) -> Tensor:
        total: Tensor = sum((part(features) for part in self.parts), start=torch.zeros_like(features))
        return total
