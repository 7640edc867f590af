"""Small networks and data, a slow way to read activations, and results compared number by number."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import netprobe as npb
from netprobe import data as npdata
from netprobe.metrics import Metric
from netprobe.testing.comparing import assert_same, variables
from netprobe.testing.metrics import QUIET
from netprobe.testing.samples import ConvNet, images, lookup, seeded, shifted, unchanged

__all__ = [
    "QUIET",
    "ConvNet",
    "Recurrent",
    "Tokens",
    "affine",
    "assert_same",
    "channel_rows",
    "images",
    "lookup",
    "probed",
    "recorded",
    "seeded",
    "shifted",
    "unchanged",
    "units",
    "variables",
]


class Recurrent(nn.Module):
    """Reads the rows of an image in turn, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.transpose(0, 1))
        return self.head(states[-1])


class Tokens(nn.Module):
    """Rows of an image as tokens through one nn.TransformerEncoder layer."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=11, batch_first=batch_first)
        self.embed = nn.Linear(5, 8)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=batch_first)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.encoder(x if self.batch_first else x.transpose(0, 1))
        return self.head(x.mean(1 if self.batch_first else 0))


def affine(weight: Tensor, bias: Tensor | float = 0.0) -> nn.Linear:
    """A linear layer with these weights (out, in), float64."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.as_tensor(bias))
    return layer


def probed(
    model: nn.Module, data: npdata.Data, perturbations: object, metric: Metric, sites: object = "weighted", **settings
) -> xr.Dataset:
    """The results of one metric, in float64."""
    tree = npb.probe(model, data, perturbations, metric, sites, **{**QUIET, "dtype": "float64", **settings})
    return tree[f"{type(model).__name__}/{metric.name}"].to_dataset()


def recorded(model: nn.Module, x: Tensor, *names: str, inputs: bool = False) -> dict[str, np.ndarray]:
    """What the modules called `names` return (or receive) on `x`, by plain hooks that copy at once."""
    seen: dict[str, np.ndarray] = {}

    def keep(name: str, tensor: Tensor) -> None:
        seen[name] = tensor.detach().clone().numpy()

    with contextlib.ExitStack() as hooks:
        for name in names:
            module = model.get_submodule(name)
            if inputs:
                handle = module.register_forward_pre_hook(lambda _m, args, name=name: keep(name, args[0]))
            else:
                handle = module.register_forward_hook(lambda _m, _a, output, name=name: keep(name, output))
            hooks.callback(handle.remove)
        with torch.no_grad():
            model.eval()(x)
    return seen


def units(activations: np.ndarray) -> np.ndarray:
    """(image, unit), float64."""
    return activations.reshape(len(activations), -1).astype(np.float64)


def channel_rows(activations: np.ndarray) -> np.ndarray:
    """(image * location, channel) of an (image, channel, ...) array, float64."""
    return np.moveaxis(activations, 1, -1).reshape(-1, activations.shape[1]).astype(np.float64)
