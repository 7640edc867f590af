"""A locally learnt layer in numbers to look at: prototypes, and how units to prune were told."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from netprobe.defenses.krotov_hopfield.conversion import local_layer
from netprobe.errors import NetprobeError
from netprobe.metrics.base import variable

SHOWN = 16
QUANTITIES = ("converged", "negative", "winning")
MEANT = "share of units of p-norm R, number of units of mean below -R/2, share that wins a sample"


def prototypes(model: nn.Module, shape: Sequence[int] | None = None, *, count: int = SHOWN) -> xr.Dataset:
    """The weights W of a layer learnt by `KrotovHopfieldDefense`, and what pruning made of its units.

    Parameters
    ----------
    shape : of the images (C, H, W), as which the weights of a linear layer are shown if they are as many; a
        convolution's have a shape of their own. None, or another number: one row.
    count : prototypes of each kind, at most.

    Returns a Dataset:
        weight(stage, place, channel, row, column)  of units that are evenly spaced: "before" among all, "after" among
                         those that were kept; NaN where there are fewer
        variance(unit)   s = Var_i W_i, which tells the units that are pruned
        norm(unit)       ||W||_p, R for a unit that has converged
        kept(unit)       whether it was kept
        attempt(number, quantity)  how every attempt to learn it ended, see `Attempt`; none of an untrained layer
        outcome(quantity)          how the last one did; NaN of an untrained layer
    and the attributes cutoff, the variance from which on units were pruned, and pruned, their share.
    """
    if count < 1:
        raise NetprobeError(f"count={count}: give 1 or more")
    name, layer = local_layer(model)
    weight, kept = layer.weight.detach().double().cpu(), layer.kept.cpu()
    flat = weight.flatten(1)
    pictures, attempts = _pictures(weight, shape), layer.made().double().cpu().numpy()
    outcome = attempts[-1] if len(attempts) else np.full(len(QUANTITIES), np.nan)
    found = {
        "weight": variable(
            "stage place channel row column",
            np.stack([_spaced(pictures, count), _spaced(pictures[kept], count)]),
            *("weight", "1", "W of a unit, as it was learnt"),
        ),
        "variance": variable(
            "unit", flat.var(1, correction=0).numpy(), "variance of the weights", "1", "Var over the inputs of W"
        ),
        "norm": variable("unit", torch.linalg.vector_norm(flat, layer.p, dim=1).numpy(), "p-norm", "1", "||W||_p"),
        "kept": variable("unit", kept.numpy(), "kept", "1", "whether the unit was not pruned"),
        "attempt": variable("number quantity", attempts, "end of an attempt", "1", MEANT),
        "outcome": variable("quantity", outcome, "end of local learning", "1", MEANT),
    }
    coords = {"stage": ["before", "after"], "unit": np.arange(len(flat)), "quantity": list(QUANTITIES)}
    coords["number"] = np.arange(len(attempts)) + 1
    attrs = {"title": "prototypes", "layer": name, "p": layer.p, "cutoff": layer.cutoff.item()}
    return xr.Dataset(found, coords, attrs | {"pruned": 1 - kept.double().mean().item()})


def unpruned(model: nn.Module) -> nn.Module:
    """A copy of `model` in which every unit of its locally learnt layer is there, for spectra before pruning."""
    model = copy.deepcopy(model)
    _, layer = local_layer(model)
    layer.kept.fill_(True)
    layer.refresh()
    return model


def _pictures(weight: Tensor, shape: Sequence[int] | None) -> Tensor:
    """(H, channel, row, column)."""
    if weight.ndim == 4:
        return weight
    as_image = shape is not None and len(shape) == 3 and math.prod(shape) == weight.shape[1]
    return weight.view(len(weight), *(shape if as_image else (1, 1, -1)))


def _spaced(pictures: Tensor, count: int) -> np.ndarray:
    """`count` of them, evenly spaced."""
    there = np.unique(np.linspace(0, len(pictures) - 1, min(count, len(pictures))).round().astype(int))
    found = np.full((count, *pictures.shape[1:]), np.nan)
    found[: len(there)] = pictures[there].numpy()
    return found
