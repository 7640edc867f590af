"""Small networks and data, a slow way to read activations, and results compared number by number."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

import netprobe as npb
from netprobe import data as npdata
from netprobe.metrics import Metric

QUIET = {"preflight": False, "progress": False}


def images(n: int = 20, shape: tuple[int, ...] = (3, 6, 5), classes: int = 4, seed: int = 0) -> npdata.Data:
    """`n` random images, every axis of another length."""
    generator = torch.Generator().manual_seed(seed)
    return npdata.load((torch.rand(n, *shape, generator=generator), torch.arange(n) % classes))


class ConvNet(nn.Module):
    """Two convolutions and a head; in-place ReLUs, which overwrite what the convolutions returned."""

    def __init__(self, channels: int = 3, classes: int = 4, width: int = 7, offset: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width - 1, 2)
        self.relu2 = nn.ReLU(inplace=True)
        self.head = nn.Linear(width - 1, classes)
        self.conv1.bias.data += offset

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.conv2(x))
        return self.head(x.mean((2, 3)))


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


def seeded(build: Callable[..., nn.Module], *args, seed: int = 0, **kwargs) -> nn.Module:
    """`build(...)` with weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*args, **kwargs)


def affine(weight: Tensor, bias: Tensor | float = 0.0) -> nn.Linear:
    """A linear layer with these weights (out, in), float64."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.as_tensor(bias))
    return layer


def shifted(data: npdata.Data, size: float = 0.1, seed: int = 5) -> Tensor:
    """Inputs near those of `data`, in [0, 1]."""
    noise = torch.randn(data.inputs.shape, generator=torch.Generator().manual_seed(seed))
    return (data.inputs + size * noise).clamp(0, 1)


def lookup(inputs: Tensor) -> Callable[..., Tensor]:
    """The perturbation whose result for image i of the data set is `inputs[i]`."""

    def stored(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        return inputs[generator.images].to(x)

    return stored


def unchanged(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
    """The perturbation that changes nothing."""
    return x


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


def variables(tree: xr.DataTree) -> Iterator[tuple[str, xr.DataArray]]:
    """Every data variable of every group, by path."""
    for node in tree.subtree:
        for name, values in node.data_vars.items():
            yield f"{node.path}/{name}", values


def assert_same(actual: xr.DataTree, expected: xr.DataTree, rtol: float = 0.0) -> None:
    """The same variables, dims and coordinates, and numbers that agree to `rtol` of the variable's largest."""
    assert dict(variables(actual)).keys() == dict(variables(expected)).keys()
    for path, wanted in variables(expected):
        found = actual[path]
        assert found.dims == wanted.dims and found.dtype == wanted.dtype, path
        for name in wanted.coords:
            np.testing.assert_array_equal(found[name].values, wanted[name].values, err_msg=f"{path}: {name}")
        if wanted.dtype.kind not in "fi":
            assert found.values.tolist() == wanted.values.tolist(), path
            continue
        finite = np.abs(wanted.values[np.isfinite(wanted.values)])
        atol = rtol * finite.max() if finite.size else 0
        np.testing.assert_allclose(found.values, wanted.values, rtol=rtol, atol=atol, err_msg=path)
