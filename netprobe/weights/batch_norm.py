"""What batch norm carries: running statistics, gamma and beta of every channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.metrics.base import variable
from netprobe.weights.labelled import layer_coords, padded
from netprobe.weights.layers import NOT_REACHED, Layer, choose, find_layers

QUANTITIES = {
    "running_mean": ("running mean", "mean of the channel as kept in training"),
    "running_variance": ("running variance", "variance of the channel as kept in training"),
    "gamma": ("scale γ", "what the normalised channel is multiplied by; NaN without affine parameters"),
    "beta": ("shift β", "what is added to the normalised channel; NaN without affine parameters"),
}
SOURCES = {"running_mean": "running_mean", "running_variance": "running_var", "gamma": "weight", "beta": "bias"}


def batch_norm(model: nn.Module, input_shape: Sequence[int] | Tensor, layers: Any = "norm") -> xr.Dataset:
    """Running mean, running variance, gamma and beta of every channel of every batch-norm layer.

        y = gamma (x - running_mean) / sqrt(running_variance + epsilon) + beta

    Parameters
    ----------
    model, input_shape : as for `netprobe.weights.filters`
    layers : patterns as in `netprobe.sites.selection`, of normalisation layers

    Returns a Dataset over `layer` and `channel` (padded with NaN): the four quantities, in the units of the
    activations; over `layer`: `gain`, the largest |gamma| / sqrt(running_variance + epsilon), the operator norm of the
    layer in eval mode (NaN without running statistics); `epsilon`; `channels`; `constant` (channels whose gamma is 0,
    which pass on nothing but beta); `note`. Without affine parameters gamma and beta are NaN (they act as 1 and 0),
    without running statistics those are NaN (the layer normalises by the batch it is given). Layers that never have
    running statistics (GroupNorm, LayerNorm, InstanceNorm as it is by default) are rows of NaN with a note. Neither
    larger nor smaller is better.

    Cost: one dry run.
    Errors: NetprobeError if no layer has running statistics or affine batch norm, and as for `filters`.
    Source: Ioffe and Szegedy (2015); Bakiskan (2022), dissertation, Figs. 3.14 to 3.17.

    >>> from torch import nn
    >>> import netprobe as npb
    >>> found = npb.weights.batch_norm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), (3, 8, 8))
    >>> found.gamma.values, found.gain.values.round(4)
    (array([[1., 1., 1., 1.]]), array([1.]))
    """
    chosen = normalisations(model, input_shape, layers)
    modules = [layer.of(model) for layer in chosen]
    usable = [_refused(layer, module) == "" for layer, module in zip(chosen, modules, strict=True)]
    values = {
        name: [
            _vector(module, SOURCES[name]) if fine else np.empty(0)
            for module, fine in zip(modules, usable, strict=True)
        ]
        for name in QUANTITIES
    }
    known = [max(map(len, of_layer)) for of_layer in zip(*values.values(), strict=True)]
    width = max(known)
    table = {name: variable("layer channel", _wide(rows, width), *_about(name)) for name, rows in values.items()}
    return xr.Dataset(table | _facts(chosen, modules, usable, known, values["gamma"]), layer_coords(chosen))


def normalisations(model: nn.Module, input_shape: Sequence[int] | Tensor, layers: Any = "norm") -> list[Layer]:
    """The normalisation layers that `layers` choose, at least one of them a batch norm."""
    every = [layer for layer in find_layers(model, input_shape) if _normalises(layer.of(model))]
    if not any(is_batch_norm(layer.of(model)) for layer in every):
        kinds = sorted({layer.kind for layer in every})
        there = f": {', '.join(kinds)} keep no running statistics" if kinds else ""
        raise NetprobeError(f"{type(model).__name__} has no batch norm{there}")
    return choose(every, layers)


def is_batch_norm(module: nn.Module) -> bool:
    """Whether its channels have statistics over images: any batch norm, frozen too, or instance norm that tracks."""
    return tracks(module) or isinstance(module, nn.modules.batchnorm._BatchNorm)


def tracks(module: nn.Module) -> bool:
    """Whether it keeps running statistics."""
    return isinstance(getattr(module, "running_mean", None), Tensor)


def gains(module: nn.Module) -> Tensor:
    """|gamma| / sqrt(running_variance + epsilon) of each channel, float64 on the CPU; 1 stands in for what it lacks."""
    gamma, variance = (_vector(module, SOURCES[name]) for name in ("gamma", "running_variance"))
    gain = torch.ones(max(len(gamma), len(variance)), dtype=torch.float64)
    if len(variance):
        gain /= torch.from_numpy(variance + module.eps).sqrt()
    return gain * torch.from_numpy(gamma).abs() if len(gamma) else gain


def _normalises(module: nn.Module) -> bool:
    return is_batch_norm(module) or "Norm" in type(module).__name__


def _refused(layer: Layer, module: nn.Module) -> str:
    """Why there are no numbers; that the dry run never came by does not matter to them."""
    if not layer.usable and layer.note != NOT_REACHED:
        return layer.note
    return "" if is_batch_norm(module) else f"{layer.kind} keeps no running statistics"


def _vector(module: nn.Module, name: str) -> np.ndarray:
    """A parameter or buffer of one number a channel, float64; empty if the module has none."""
    value = getattr(module, name, None)
    return value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.empty(0)


def _wide(rows: Sequence[np.ndarray], width: int) -> np.ndarray:
    return padded([*rows, np.empty(width)])[:-1]


def _about(name: str) -> tuple[str, str, str]:
    long_name, definition = QUANTITIES[name]
    return long_name, "1", definition


def _facts(
    layers: Sequence[Layer],
    modules: Sequence[nn.Module],
    usable: Sequence[bool],
    channels: Sequence[int],
    gamma: Sequence[np.ndarray],
) -> dict[str, xr.Variable]:
    each = list(zip(layers, modules, usable, strict=True))
    epsilon = [float(module.eps) if fine else np.nan for _, module, fine in each]
    gain = [float(gains(module).max()) if fine and tracks(module) else np.nan for _, module, fine in each]
    constant = [float((g == 0).sum()) if fine else np.nan for g, fine in zip(gamma, usable, strict=True)]
    counted = [float(n) if fine else np.nan for n, fine in zip(channels, usable, strict=True)]
    notes = [_refused(layer, module) or _lacking(layer, module) for layer, module, _ in each]
    definition = "max over channels of |gamma| / sqrt(running_variance + epsilon), the operator norm in eval mode"
    return {
        "gain": variable("layer", gain, "largest gain", "1", definition),
        "epsilon": variable("layer", epsilon, "epsilon", "1", "added to the variance before its root is taken"),
        "channels": variable("layer", counted, "channels", "1", "channels of the layer"),
        "constant": variable("layer", constant, "constant channels", "1", "channels whose gamma is exactly 0"),
        "note": variable("layer", notes, "note", "text", "why a layer has no numbers, or what to know of them"),
    }


def _lacking(layer: Layer, module: nn.Module) -> str:
    """What a batch norm does without."""
    affine = isinstance(getattr(module, "weight", None), Tensor)
    said = [
        "" if tracks(module) else "track_running_stats=False: it normalises by the batch it is given",
        "" if affine else "affine=False: no gamma and beta",
        layer.note,
    ]
    return "; ".join(filter(None, said))
