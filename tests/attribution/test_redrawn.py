from __future__ import annotations

import pytest
import torch
from torch import nn

from netprobe.attribution.redrawn import last_weight_redrawn
from netprobe.errors import NetprobeError
from netprobe.sites import find_sites

X = torch.rand(2, 3)


def passes(net: nn.Module, times: int, seed: int = 0) -> list[torch.Tensor]:
    return [forward(X) for forward in last_weight_redrawn(net, find_sites(net, X), times, seed)]


def test_only_the_last_weight_is_drawn_anew_with_its_variance():
    net = nn.Sequential(nn.Linear(3, 50), nn.ReLU(), nn.Linear(50, 400, bias=False)).eval()
    net[2].weight.data.mul_(7)
    before = [p.clone() for p in net.parameters()]
    hidden = net[1](net[0](X))
    (output,) = passes(net, 1)
    assert all(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))
    # The outputs are hidden times the drawn weight: std |hidden| * std(weight), to 5 standard errors of 400 outputs.
    torch.testing.assert_close(output.std(1), hidden.norm(dim=1) * net[2].weight.std(), rtol=5 / 800**0.5, atol=0)


def test_draws_differ_and_follow_the_seed():
    net = nn.Linear(3, 4)
    a, b = passes(net, 2)
    assert not torch.equal(a, b)
    assert torch.equal(passes(net, 2)[1], b) and not torch.equal(passes(net, 1, seed=1)[0], a)


def test_weights_that_are_all_alike_get_variance_1():
    net = nn.Linear(3, 4000, bias=False)
    net.weight.data.zero_()
    torch.testing.assert_close(passes(net, 1)[0].std(1), X.norm(dim=1), rtol=5 / 8000**0.5, atol=0)


def test_without_a_weight_there_is_nothing_to_draw():
    with pytest.raises(NetprobeError, match="no weight matrix"):
        passes(nn.Sequential(nn.ReLU(), nn.BatchNorm1d(3)).eval(), 1)
