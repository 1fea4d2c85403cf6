"""The exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_Tensors = tuple[Tensor, ...] | list[Tensor]


def share_kept(decay: float, count: int) -> float:
    """The share of the average that stays when the weights after ``count`` earlier ones come in.

    It grows up to ``decay``, so that the random start is soon forgotten: with a fixed decay of .998, a third of the average
    would still be the untrained network after 500 steps, and it finds nothing.
    """
    return min(decay, (1 + count) / (10 + count))


class WarmedAverage(AveragedModel):
    """The average of a network's weights and buffers, with the shares of `share_kept`; whole numbers are taken over.

    All tensors of a type are averaged in one call, and the count of the updates stays on the host, so that a GPU is never
    waited for.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        super().__init__(network, multi_avg_fn=self._blend, use_buffers=True)

    def _blend(self, averaged: _Tensors, current: _Tensors, count: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            torch._foreach_copy_(averaged, current)
            return
        # ``count`` lies on the device of the weights; the same number is in a buffer on the host.
        kept = share_kept(self._decay, int(self.n_averaged))
        torch._foreach_mul_(averaged, kept)
        torch._foreach_add_(averaged, torch._foreach_mul(current, 1 - kept))
