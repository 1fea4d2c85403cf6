"""Position and channel attention (Fig. 3; DANet): the fast forms and the obvious references they are tested against.

The obvious position attention holds a (HW) x (HW) map, 2.6 GB at 160 x 160 in fp32. The fast form never holds it: queries go
through in chunks on the CPU, through scaled-dot-product attention on CUDA. Both use scale 1 (no 1/sqrt(d)), as DANet does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

QUERY_CHUNK = 1024


def position_attention(query: Tensor, key: Tensor, value: Tensor, chunk: int = QUERY_CHUNK) -> Tensor:
    """softmax(Q K^T) V without the full map.

    Parameters
    ----------
    query, key
        (B, N, d) tokens.
    value
        (B, N, C) tokens.
    chunk
        Queries handled at a time on the CPU.

    Returns
    -------
    (B, N, C)
    """
    if query.is_cuda:
        padded = [F.pad(t, (0, value.shape[-1] - t.shape[-1])) for t in (query, key)]
        return F.scaled_dot_product_attention(padded[0], padded[1], value, scale=1.0)
    if query.shape[1] <= chunk:
        return _attend(query, key, value)
    # Recomputing each chunk in the backward pass keeps its softmax out of memory.
    parts = [checkpoint(_attend, part, key, value, use_reentrant=False) for part in query.split(chunk, dim=1)]
    return torch.cat(parts, dim=1)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value


def position_attention_reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The obvious form, with the whole (N, N) map in memory."""
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
    # Autocast knows no meta device, on which only work is counted.
    device = "cpu" if features.is_meta else features.device.type
    with torch.autocast(device_type=device, enabled=False):
        flat = features.float().reshape(batch, channels, -1)  # (B, C, N)
        energy = flat @ flat.transpose(1, 2)  # (B, C, C)
        weights = torch.softmax(energy.amax(dim=-1, keepdim=True) - energy, dim=-1)
        mixed = weights @ flat
    return mixed.reshape(features.shape).to(features.dtype)


class PositionAttention(nn.Module):
    """PAM (Fig. 3a): ``gamma * attention(x) + x``, gamma 0 at the start; query and key have C/8 channels."""

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
    """CAM (Fig. 3b): ``gamma * attention(x) + x``, gamma 0 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        return self.gamma * channel_attention(features) + features


class DualAttention(nn.Module):
    """PAM(U) + CAM(U), either of them alone, or U unchanged.

    Parameters
    ----------
    channels
        Of U (64 in the paper).
    pam, cam
        Which modules are in.
    reduction
        1 works at the resolution of U, as in the paper. k > 1 lets the attention see U averaged over k x k cells and adds
        what it changes, upsampled: the shipped model's saving on a CPU (the cost of PAM falls with k^4).
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
