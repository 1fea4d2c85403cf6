"""PAM and CAM against the obvious forms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spineone_core.network.attention import (
    DualAttention,
    channel_attention,
    position_attention,
    position_attention_reference,
)


def tokens(seed: int, n: int, d: int) -> torch.Tensor:
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), requires_grad=True)


@pytest.mark.parametrize("chunk", [7, 64, 1000])
def test_position_attention__equals_reference_forward_and_backward(chunk: int) -> None:
    results = []
    for form in (lambda *a: position_attention(*a, chunk=chunk), position_attention_reference):
        q, k, v = tokens(1, 150, 8), tokens(2, 150, 8), tokens(3, 150, 64)
        out = form(q, k, v)
        (out * torch.linspace(0, 1, 64)).sum().backward()
        results.append([out.detach(), q.grad, k.grad, v.grad])
    for fast, obvious in zip(*results, strict=True):
        assert (fast - obvious).norm() / obvious.norm() < 1e-5


def test_channel_attention__equals_loop() -> None:
    x = torch.randn(1, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    flat = x.reshape(5, 12)
    energy = torch.tensor([[float(flat[i] @ flat[j]) for j in range(5)] for i in range(5)])
    weights = torch.stack([torch.softmax(row.max() - row, dim=0) for row in energy])
    assert torch.allclose(channel_attention(x).reshape(5, 12), weights @ flat, atol=1e-5)


@pytest.mark.parametrize("reduction", [1, 4])
def test_dual_attention__starts_as_the_sum_of_its_inputs(reduction: int) -> None:
    x = torch.randn(1, 16, 20, 24)
    assert torch.allclose(DualAttention(16, pam=True, cam=True, reduction=reduction)(x), 2 * x, atol=1e-5)
    assert torch.equal(DualAttention(16, pam=False, cam=False)(x), x)


def test_dual_attention__reduced_form_changes_the_features_once_gamma_moves() -> None:
    module = DualAttention(16, pam=True, cam=True, reduction=4)
    x = torch.randn(1, 16, 20, 24)
    before = module(x)
    with torch.no_grad():
        for part in module.parts:
            part.gamma.fill_(0.5)
    assert (module(x) - before).abs().mean() > 1e-3


def test_position_attention__equals_reference_at_many_tokens() -> None:
    q, k, v = tokens(1, 1600, 8), tokens(2, 1600, 8), tokens(3, 1600, 64)
    fast, obvious = position_attention(q, k, v), position_attention_reference(q, k, v)
    assert (fast - obvious).norm() / obvious.norm() < 1e-5
    for a, b in zip(*(torch.autograd.grad(o.square().sum(), (q, k, v)) for o in (fast, obvious)), strict=True):
        assert (a - b).norm() / b.norm() < 1e-5


def test_position_attention__works_in_half_precision() -> None:
    q, k, v = (tokens(i, 150, 8).detach().bfloat16().requires_grad_() for i in (1, 2, 3))
    fast, exact = position_attention(q, k, v, chunk=40), position_attention_reference(q.float(), k.float(), v.float())
    assert (fast.float() - exact).norm() / exact.norm() < 0.02
    grads = [torch.autograd.grad(o.float().square().sum(), (q, k, v)) for o in (fast, exact)]
    for a, b in zip(*grads, strict=True):
        assert a.dtype == torch.bfloat16
        assert (a.float() - b.float()).norm() / b.float().norm() < 0.05


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux's memory counters")
@pytest.mark.parametrize(("side", "more"), [(160, []), (96, ["--backward"])])
def test_position_attention__peak_memory(side: int, more: list[str]) -> None:
    program = Path(__file__).resolve().parents[3] / "benchmarks" / "attention_memory.py"
    command = [sys.executable, str(program), "--form", "ours", "--side", str(side), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=program.parents[1])
    # The obvious form holds 2,621 MB at 160 x 160 for the map alone.
    assert json.loads(done.stdout)["megabytes"] < 300
