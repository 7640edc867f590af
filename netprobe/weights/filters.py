"""How sparse the filters of each layer are, and which of them are dead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from netprobe.guard import undisturbed
from netprobe.metrics.base import interval, variable
from netprobe.uncertainty import bootstrap_interval, median_interval
from netprobe.weights.batch_norm import gains, is_batch_norm
from netprobe.weights.labelled import layer_coords, padded
from netprobe.weights.layers import CONVOLUTIONS, LINEAR, Layer, choose, example_input, find_layers
from netprobe.weights.readers import only_batch_norm

NEGLIGIBLE = 1e-6
"""A filter smaller than this share of the layer's largest is dead: float32 sums of the layer hardly notice it."""

STATES = ("live", "zero", "negligible", "constant")


@dataclass(frozen=True)
class _Read:
    """What is read off one layer: ratio, norm and state of every filter, weights in a filter, the batch norm behind."""

    hoyer: np.ndarray
    norm: np.ndarray
    state: np.ndarray
    elements: int = 0
    batch_norm: str = ""


NOTHING = _Read(*(np.empty(0),) * 3)


def filters(model: nn.Module, input_shape: Sequence[int] | Tensor, layers: Any = "weighted") -> xr.Dataset:
    """Squared Hoyer ratio of every output filter of the convolutions and linear layers, and the dead filters.

        h(w) = ((||w||_1 / ||w||_2)^2 - 1) / (d - 1) in [0, 1],   w in R^d the weights of one output,
        d = C_in / groups * kernel size: 0 for a single weight that is not zero, 1 for weights all alike in size

    Parameters
    ----------
    model : on inputs in [0, 1]; left as found
    input_shape : of one input without the batch axis, such as (3, 32, 32), for a dry run that tells run order and
        what reads each layer; or a batch
    layers : patterns as in `netprobe.sites.selection`

    Returns a Dataset over `layer` and `filter` (padded with NaN): `hoyer_filter`; `norm_filter`, ||w||_2;
    `state_filter`, 0 live, 1 zero (every weight is 0), 2 negligible (its norm is below 1e-6 of the layer's largest),
    3 constant (a batch norm, which alone reads the layer, multiplies it by a gamma of 0 or below 1e-6 of the layer's
    largest gain, so that nothing but beta is left), -1 for padding; over `layer`: `hoyer` and `hoyer_median` of the
    live filters with 95 % bootstrap intervals over filters, `dead`, `dead_weights` (zero or negligible),
    `dead_batch_norm` (constant), `filters`, `elements` (d), `batch_norm` (which one reads the layer), `note`. Smaller
    ratios are sparser; independent Gaussian weights give about 2/pi = 0.64. h is NaN for dead filters and for d = 1.
    The intervals take the filters of a layer as a sample of such filters; they do not cover retraining.

    Cost: one forward pass of one input, then milliseconds. float64.
    Errors: NetprobeError for patterns that match nothing, or that name a layer that cannot be read; behind a wildcard
    such a layer is a row of NaN with a note.
    Source: Hoyer (2004); Bakiskan (2022), dissertation, Figs. 3.18 and 3.19, where the exponent is misprinted.

    >>> import torch
    >>> import netprobe as npb
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 2))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]]).view(2, 1, 2, 2))
    >>> npb.weights.filters(net, (1, 8, 8)).hoyer_filter.values
    array([[0., 1.]])
    """
    with undisturbed(model), torch.no_grad():  # reading a parametrised weight can change its buffers
        every = find_layers(model, input_shape)
        chosen = choose([layer for layer in every if layer.lineage & (CONVOLUTIONS | LINEAR)], layers)
        norms = {layer.path: layer.name for layer in every if layer.usable and is_batch_norm(layer.of(model))}
        readable = [layer.path for layer in chosen if layer.usable]
        behind = only_batch_norm(model, example_input(model, input_shape), readable, list(norms))
        reads = [_read(layer, model, behind, norms) if layer.path in readable else NOTHING for layer in chosen]
    return _dataset(chosen, reads)


def filter_rows(module: nn.Module) -> Tensor:
    """The weights of each output as a row, (C_out, d), float64 on the CPU.

    The weight of a transposed convolution is (C_in, C_out / groups, ...): its outputs are on the second axis, within
    each group of inputs.
    """
    weight = module.weight.detach().cpu().double()
    if getattr(module, "transposed", False):
        weight = weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    return weight.flatten(1)


def squared_hoyer(rows: Tensor) -> Tensor:
    """((||w||_1 / ||w||_2)^2 - 1) / (d - 1) of each row w in R^d; NaN for rows of zeros and for d = 1."""
    size = rows.abs().amax(1, keepdim=True)
    scaled = rows / torch.where(size > 0, size, torch.nan)  # the square of a tiny weight would underflow
    ratio = scaled.abs().sum(1).square() / scaled.square().sum(1)
    d = rows.shape[1]
    return ((ratio - 1) / (d - 1)).clamp(0, 1) if d > 1 else torch.full_like(ratio, torch.nan)


def _read(layer: Layer, model: nn.Module, behind: dict[str, str], names: dict[str, str]) -> _Read:
    rows = filter_rows(layer.of(model))
    norm = torch.linalg.vector_norm(rows, dim=1)
    path = behind.get(layer.path)
    gain = gains(model.get_submodule(path)) if path else torch.ones_like(norm)
    state = _states(norm, norm * gain)
    hoyer = torch.where(state == 0, squared_hoyer(rows), torch.nan)
    return _Read(hoyer.numpy(), norm.numpy(), state.numpy(), rows.shape[1], names[path] if path else "")


def _states(norm: Tensor, behind: Tensor) -> Tensor:
    """The index in STATES of each filter, from its norm, and that norm times the gain of the batch norm behind it."""
    state = torch.where(behind <= NEGLIGIBLE * behind.max(), 3, 0)
    state = torch.where(norm <= NEGLIGIBLE * norm.max(), 2, state)
    return torch.where(norm == 0, 1, state)


def _dataset(layers: Sequence[Layer], reads: Sequence[_Read]) -> xr.Dataset:
    live = [read.hoyer[np.isfinite(read.hoyer)] for read in reads]
    known = np.array([bool(read.norm.size) for read in reads])
    mean = variable("layer", _each(np.mean, live), "squared Hoyer ratio of the filters", "1",
                    "mean over live filters of h(w); 0 is sparsest, Gaussian weights give 2/pi")  # fmt: skip
    median = variable("layer", _each(np.median, live), "median squared Hoyer ratio of the filters", "1",
                      "median over live filters of h(w)")  # fmt: skip
    intervals = [np.array([bounds(values) for values in live]) for bounds in (bootstrap_interval, median_interval)]
    return xr.Dataset(
        {
            "hoyer": mean,
            "hoyer_interval": interval("layer", intervals[0], mean, "bootstrap over filters, 1,000 resamples"),
            "hoyer_median": median,
            "hoyer_median_interval": interval("layer", intervals[1], median, "bootstrap over filters, exact"),
            **_per_filter(reads),
            **_counts(reads, known),
            "batch_norm": variable("layer", [read.batch_norm for read in reads], "batch norm", "name",
                                   "the batch norm that alone reads the layer; empty if there is none"),
            "note": variable("layer", [_note(layer, read) for layer, read in zip(layers, reads, strict=True)],
                             "note", "text", "why a layer has no numbers, or what to know of them"),
        },
        layer_coords(layers) | {"bound": ["low", "high"]},
    )  # fmt: skip


def _each(statistic: Any, live: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([statistic(values) if values.size else np.nan for values in live])


def _per_filter(reads: Sequence[_Read]) -> dict[str, xr.Variable]:
    flags = {"flag_values": np.arange(-1, len(STATES), dtype=np.int8), "flag_meanings": " ".join(("none", *STATES))}
    state = variable("layer filter", padded([read.state for read in reads], -1).astype(np.int8), "state of the filter",
                     "flag", "0 live, 1 zero, 2 negligible, 3 constant behind batch norm, -1 padding")  # fmt: skip
    state.attrs |= flags
    return {
        "hoyer_filter": variable("layer filter", padded([read.hoyer for read in reads]),
                                 "squared Hoyer ratio of the filter", "1", "h(w); NaN for dead filters"),
        "norm_filter": variable("layer filter", padded([read.norm for read in reads]), "norm of the filter", "1",
                                "||w||_2"),
        "state_filter": state,
    }  # fmt: skip


def _counts(reads: Sequence[_Read], known: np.ndarray) -> dict[str, xr.Variable]:
    """How many filters of each kind, NaN for layers that could not be read."""

    def count(long_name: str, definition: str, *states: int) -> xr.Variable:
        found = [float(np.isin(read.state, states).sum()) for read in reads]
        return variable("layer", np.where(known, found, np.nan), long_name, "1", definition)

    elements = np.where(known, [float(read.elements) for read in reads], np.nan)
    return {
        "dead": count("dead filters", "zero, negligible or constant", 1, 2, 3),
        "dead_weights": count("filters without weights", "zero, or below 1e-6 of the layer's largest norm", 1, 2),
        "dead_batch_norm": count("filters silenced by batch norm", "of weights, but times a gamma of (nearly) 0", 3),
        "filters": count("filters", "outputs of the layer", 0, 1, 2, 3),
        "elements": variable("layer", elements, "weights of a filter", "1", "d = C_in / groups * kernel size"),
    }


def _note(layer: Layer, read: _Read) -> str:
    if read.norm.size:
        return "a filter of a single weight has no ratio" if read.elements == 1 else ""
    return layer.note
