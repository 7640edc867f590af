from __future__ import annotations

import copy

import pytest
import torch
from spoiled import Sample
from torch import nn

from netprobe.data import load
from netprobe.models import digits_cnn


@pytest.fixture(scope="session")
def digits() -> Sample:
    data = load("digits", split="test", limit=128)
    return Sample(data.inputs, data.labels, data.classes)


@pytest.fixture(scope="session")
def _trained() -> nn.Module:
    """A small CNN after three epochs on the digits, a second or two; nearly all predictions are right."""
    torch.manual_seed(0)
    data, net = load("digits", split="train"), digits_cnn()
    inputs = data.inputs
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(3):
        for rows in torch.randperm(len(data)).split(64):
            loss = nn.functional.cross_entropy(net(inputs[rows]), data.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


@pytest.fixture
def trained(_trained: nn.Module) -> nn.Module:
    """A copy in eval mode, to be spoiled at will."""
    return copy.deepcopy(_trained)
