"""Whether batch norm's running statistics still fit: against those of data, clean and perturbed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from torch import Tensor, nn

from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.errors import NetprobeError
from netprobe.metrics import ChannelMoments
from netprobe.metrics.base import interval, variable
from netprobe.probing.probe import probe
from netprobe.uncertainty import jackknife_interval
from netprobe.weights.batch_norm import batch_norm, normalisations, tracks

JACKKNIFE = "block jackknife over images"

MEASURES = {
    "mean_shift": (
        "shift of the mean",
        "running standard deviations",
        "(mean - running_mean) / sqrt(running_variance + epsilon)",
    ),
    "log_variance_ratio": (
        "log ratio of the variances",
        "nats",
        "ln((variance + epsilon) / (running_variance + epsilon))",
    ),
    "symmetric_kl": (
        "symmetric KL divergence",
        "nats",
        "KL(data || running) + KL(running || data) of the Gaussians with these means and variances plus epsilon",
    ),
}


def batch_norm_drift(
    model: nn.Module,
    data: Data | Any,
    perturbations: Any = None,
    layers: Any = "norm",
    **settings: Any,
) -> xr.Dataset:
    """How far the statistics of `data` at the inputs of the batch norms are from the running ones, channel by channel.

    With mean m and variance v of the data, running mean m0 and variance v0, each variance plus the layer's epsilon:

        mean_shift = (m - m0) / sqrt(v0),    log_variance_ratio = ln(v / v0),
        symmetric_kl = (v/v0 + v0/v - 2 + (m - m0)^2 (1/v + 1/v0)) / 2

    m0 and v0 are what the layer normalises by, so mean_shift and exp(log_variance_ratio) are the mean and variance of
    the channel that it hands on, before gamma and beta: 0 and 1 on the data of its training.

    Parameters
    ----------
    model : on inputs in [0, 1]; its buffers are never written to
    data : a `Data`, or anything `netprobe.data.load` takes
    perturbations : as for `netprobe.probe`; None for clean images alone
    layers : patterns as in `netprobe.sites.selection`, of normalisation layers
    settings : of `netprobe.probe`, such as batch_size, seed, device

    Returns a Dataset over `condition`, `layer` and `channel` (padded with NaN): `mean` and `variance` of the data;
    `mean_shift_channel` and `log_variance_ratio_channel` with their signs, `symmetric_kl_channel`; over `condition` and
    `layer`: `mean_shift`, `log_variance_ratio` and `symmetric_kl`, means over channels of the magnitudes, with 95 %
    jackknife intervals over blocks of images; over `layer`: `rows`, images times locations. Smaller: the data look
    like those of training. Few rows shift a mean by chance too, by about sqrt(2 / (pi rows)) if rows were independent.
    A layer that is called several times is judged on all its calls together, as its running statistics are.

    Cost: a forward pass for each condition and what the perturbations cost; 48 bytes a channel, condition and block.
    Errors: as for `batch_norm` and `netprobe.probe`; NetprobeError if no chosen layer keeps running statistics.
    """
    data = data if isinstance(data, Data) else load_data(data)
    moments = input_moments(model, data, perturbations, layers, **settings)
    return drift(moments, batch_norm(model, data.shape, layers))


def input_moments(model: nn.Module, data: Data, perturbations: Any, layers: Any, **settings: Any) -> xr.Dataset:
    """`ChannelMoments` of what the chosen batch norms are given; parameters as for `batch_norm_drift`."""
    metric = ChannelMoments(at="input", sites=site_pattern(tracked_names(model, data.shape, layers)))
    tree = probe({"model": model}, data, perturbations, metric, **{"preflight": False} | settings)
    return tree["model"][metric.name].to_dataset()


def tracked_names(model: nn.Module, input_shape: Sequence[int] | Tensor, layers: Any = "norm") -> list[str]:
    """The chosen batch norms that keep running statistics, which can be read, and that are called; at least one."""
    chosen = normalisations(model, input_shape, layers)
    names = [layer.name for layer in chosen if layer.usable and tracks(layer.of(model))]
    if not names:
        raise NetprobeError(f"none of the layers {', '.join(layer.name for layer in chosen)} keeps running statistics")
    return names


def site_pattern(names: Iterable[str]) -> str:
    """The pattern of these modules' calls and no others."""
    return f"re:^({'|'.join(map(re.escape, names))})(#[0-9]+)?$"


def drift(moments: xr.Dataset, running: xr.Dataset) -> xr.Dataset:
    """The Dataset of `batch_norm_drift`, from `ChannelMoments` at the inputs and what `batch_norm` returns."""
    calls = _calls(moments)
    layers = [str(name) for name in running["layer"].values if str(name) in calls]
    reference = running.sel(layer=layers).isel(channel=slice(moments.sizes["channel"]))
    whole = _pooled(moments, "", calls, layers)
    values = _measures(*whole, reference)
    blocks = "jackknife_mean" in moments
    rest = _measures(*_pooled(moments, "jackknife_", calls, layers), reference) if blocks else {}
    variables = _moment_variables(*whole) | {"rows": _rows(moments, calls, layers)}
    for name, measure in values.items():
        variables |= _variables(name, measure, rest.get(name))
    coords = {name: moments[name] for name in ("condition", "family", "eps")}
    along = {name: ("layer", reference[name].values) for name in ("layer", "kind", "order", "depth")}
    return xr.Dataset(variables, coords | along | {"bound": ["low", "high"]})


def _calls(moments: xr.Dataset) -> dict[str, list[int]]:
    """The sites of each layer: "bn#1:in" is a call of "bn"."""
    calls: dict[str, list[int]] = {}
    for place, site in enumerate(map(str, moments["site"].values)):
        calls.setdefault(re.sub(r"(#\d+)?:in(/.*)?$", "", site), []).append(place)
    return calls


def _pooled(moments: xr.Dataset, prefix: str, calls: dict[str, list[int]], layers: Sequence[str]) -> tuple:
    """Mean and variance over all calls of each layer, (condition, layer, ..., channel).

    Calls weigh by their rows: the variance is the mean of the variances plus the variance of the means, which leaves
    out the -1 of unbiased estimates, a relative difference of one over the rows.
    """
    mean, variance = (moments[f"{prefix}{name}"].values for name in ("mean", "variance"))
    rows = moments["rows"].values.astype(float)
    pooled = []
    for layer in layers:
        places = calls[layer]
        weights = (rows[places] / rows[places].sum()).reshape(-1, *[1] * (mean.ndim - 2))
        centre = (weights * mean[:, places]).sum(1)
        within = variance[:, places] + (mean[:, places] - centre[:, None]) ** 2
        pooled.append((centre, (weights * within).sum(1)))
    return tuple(np.stack(values, 1) for values in zip(*pooled, strict=True))


def _measures(mean: np.ndarray, variance: np.ndarray, reference: xr.Dataset) -> dict[str, np.ndarray]:
    """Each of MEASURES for every channel, the shape of `mean`: (condition, layer, ..., channel)."""
    between = tuple(range(1, mean.ndim - 2))
    epsilon = reference["epsilon"].values[:, None]
    m0, v0 = reference["running_mean"].values, reference["running_variance"].values + epsilon
    m0, v0, epsilon = (np.expand_dims(values, between) for values in (m0, v0, epsilon))
    v = variance + epsilon
    shift = mean - m0
    return {
        "mean_shift": shift / np.sqrt(v0),
        "log_variance_ratio": np.log(v / v0),
        "symmetric_kl": (v / v0 + v0 / v - 2 + shift**2 * (1 / v + 1 / v0)) / 2,
    }


def _summary(measure: np.ndarray) -> np.ndarray:
    """Mean magnitude over the channels that there are; NaN if there are none."""
    known = np.isfinite(measure)
    return np.where(known, np.abs(measure), 0).sum(-1) / np.where(known.any(-1), known.sum(-1), np.nan)


def _variables(name: str, measure: np.ndarray, rest: np.ndarray | None) -> dict[str, xr.Variable]:
    """A measure channel by channel, and its mean magnitude with the interval that the left-out blocks give."""
    long_name, units, definition = MEASURES[name]
    mean = variable("condition layer", _summary(measure), long_name, units, f"mean over channels of |{definition}|")
    left_out = np.empty((0, *mean.shape)) if rest is None else np.moveaxis(_summary(rest), 2, 0)
    bounds = np.clip(jackknife_interval(mean.values, left_out), 0, None)  # no magnitude is below 0
    return {
        name: mean,
        f"{name}_interval": interval("condition layer", bounds, mean, JACKKNIFE),
        f"{name}_channel": variable("condition layer channel", measure, long_name, units, definition),
    }


def _moment_variables(mean: np.ndarray, variance: np.ndarray) -> dict[str, xr.Variable]:
    dims = "condition layer channel"
    return {
        "mean": variable(
            dims, mean, "mean of the channel", "1", "over images and locations of what the layer is given"
        ),
        "variance": variable(dims, variance, "variance of the channel", "1", "over images and locations, likewise"),
    }


def _rows(moments: xr.Dataset, calls: dict[str, list[int]], layers: Sequence[str]) -> xr.Variable:
    rows = [int(moments["rows"].values[calls[layer]].sum()) for layer in layers]
    return variable("layer", rows, "rows", "1", "images times locations, over all calls")
