"""Singular values of every convolution and linear layer of a model, as the operators they are."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.errors import NetprobeError, unknown
from netprobe.guard import full_precision, undisturbed
from netprobe.metrics.base import variable
from netprobe.settings import SpectrumSettings
from netprobe.weights.labelled import layer_coords, padded
from netprobe.weights.layers import CONVOLUTIONS, LINEAR, Layer, choose, find_layers, named_outright, runnable
from netprobe.weights.operators import ConvOperator, disagreement, operator_of
from netprobe.weights.singular_values import LEVELS
from netprobe.weights.solving import Solved, choose_method, cost, solve


def conv_spectrum(
    model: nn.Module, input_shape: Sequence[int] | Tensor, layers: Any = None, **settings: Any
) -> xr.Dataset:
    """Singular values of the linear map that each convolution and linear layer is, at the resolution it really sees.

        A : R^(C_in n m) -> R^(C_out n' m'),   ||A||_2 = s_1 >= s_2 >= ... >= s_N,   N the smaller side of A

    with the layer's stride, padding, dilation and groups; a transposed convolution has those of its adjoint, a linear
    layer those of its matrix. The model and its random state are left as found; no data are needed.

    Parameters
    ----------
    model : on inputs like those of `input_shape`, (C, H, W) or the like without the batch axis, or a batch itself
    layers : patterns as in `netprobe.sites.selection`; by default every convolution and linear layer ("weighted")
    settings : the fields of `netprobe.settings.SpectrumSettings`

        method     "exact", all values: one SVD of the kernel where windows do not overlap (1x1, patches), else the
                   unrolled matrix group by group, N^3; "circular", all values of the periodic convolution, one C x C
                   eigenproblem a frequency; "lanczos", the largest to 1e-5, and the distribution of all with an
                   estimate of its error, through convolutions alone, on the model's device; "auto" takes the first
                   that is exact and affordable: exact up to N = 2048, circular for layers that pad so, else lanczos
        padding    "own", what the layer does; "circular", the published convention: the same kernel on the periodic
                   grid, whose norm is 0.3 to 8 % larger and which needs a stride that divides the size
        precision  of the values, over the largest: "single" 5e-6, "double" 1e-10, "full" 1e-13

    Returns
    -------
    Dataset over `layer` (run order; coordinates kind, order, depth). `operator_norm` and a certified
    `operator_norm_upper`; `leading` and `trailing` (rank); `normalized` (level), s / s_1 at relative index `level`, 0
    for the largest; `upper` (level) and `leading_upper` (rank), certified bounds; `median_normalized` (tail fatness),
    `effective_rank`, `stable_rank`, `frobenius`, `kernel_bound`; `value_error` and `density_error`, over the largest;
    `method` and `padding`, what was done; `log10_norm_product`. NaN where a layer could not be analysed, with the
    reason in `note`, and where a method does not give a number: trailing values of lanczos seldom converge.

    Raises NetprobeError for unknown settings and patterns, for an input the model does not take, and for a layer that
    is named outright and cannot be analysed: never reached by the dry run, lazy, quantised, complex or NaN weights, a
    forward that does more than its weight says, more memory needed than `memory`.

    References: Sedghi, Gupta and Long 2019 (circular); Golub and Meurant 1994, Ubaru, Chen and Saad 2017 (lanczos);
    Roy and Vetterli 2007 (effective rank). `kernel_bound` is what others report as the norm; it is only a bound.

    >>> import torch
    >>> import netprobe as npb
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(2, 2, 1))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]).view(2, 2, 1, 1))
    >>> npb.weights.conv_spectrum(net, (2, 4, 4), progress=False).operator_norm.values
    array([3.])
    """
    chosen = _settings(settings if layers is None else {"layers": layers, **settings})
    weighted = [layer for layer in find_layers(model, input_shape) if _has_spectrum(layer)]
    selected = choose(weighted, chosen.layers)
    ready = runnable(model, input_shape)
    with undisturbed(ready), full_precision(), torch.no_grad():
        rows = [_prepared(layer, ready, chosen) for layer in selected]
        _solve(rows, chosen)
    return _dataset(rows, chosen)


@dataclass
class _Row:
    """One layer on its way to the results: its operator and, once solved, its values; else the reason in `note`."""

    layer: Layer
    note: str
    operator: ConvOperator | None = None
    solved: Solved | None = None

    def fail(self, error: NetprobeError, settings: SpectrumSettings) -> None:
        """Raise if the layer was named outright, else keep the reason."""
        if named_outright(self.layer, settings.layers):
            raise NetprobeError(f"layer {self.layer.name!r}: {error}") from error
        self.note, self.operator = str(error), None


def _settings(given: dict[str, Any]) -> SpectrumSettings:
    known = [f.name for f in dataclasses.fields(SpectrumSettings)]
    for name in given:
        if name not in known:
            raise unknown("setting of conv_spectrum", name, known)
    return SpectrumSettings(**given)


def _has_spectrum(layer: Layer) -> bool:
    return bool(layer.lineage & (CONVOLUTIONS | LINEAR))


def _prepared(layer: Layer, model: nn.Module, settings: SpectrumSettings) -> _Row:
    """The layer's operator, checked against the layer itself, or why there is none."""
    row = _Row(layer, layer.note)
    if not layer.usable:
        return row
    module = layer.of(model)
    try:
        operator = operator_of(module, layer.input_shape, layer.output_shape)
        _check(module, operator, layer)
        row.operator = operator.made_circular() if "circular" in (settings.method, settings.padding) else operator
    except NetprobeError as error:
        row.fail(error, settings)
    return row


def _check(module: nn.Module, operator: ConvOperator, layer: Layer) -> None:
    """Raise if the layer does something else than convolve with its weight."""
    rounding = min(0.05, 1e3 * torch.finfo(operator.weight.dtype).eps)
    if (gap := disagreement(module, operator, layer.input_shape)) > rounding:
        raise NetprobeError(
            f"the forward of this {layer.kind} is not the linear map of its weight (they differ by {gap:.2g}): it "
            "standardises, pads or adapts by itself; replace it by a plain layer with the weight it really uses"
        )


def _solve(rows: list[_Row], settings: SpectrumSettings) -> None:
    """Fill in the values, behind a bar that counts estimated work."""
    todo = [row for row in rows if row.operator is not None]
    work = [cost(row.operator, settings) for row in todo]
    with tqdm(total=100, desc="singular values", disable=not settings.progress, bar_format=BAR) as bar:
        for row, share in zip(todo, np.divide(work, sum(work) or 1) * 100, strict=True):
            bar.set_postfix_str(f"{row.layer.name}, {choose_method(row.operator, settings)}")
            advance, finish = _progress(bar, share)
            try:
                row.solved = solve(row.operator, settings, advance)
            except NetprobeError as error:
                row.fail(error, settings)
            finish()


BAR = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}] {postfix}"


def _progress(bar: tqdm, share: float) -> tuple[Callable[[float], None], Callable[[], None]]:
    """How one layer moves the bar: by parts of its share, never beyond it; and what completes it."""
    done = 0.0

    def advance(part: float) -> None:
        nonlocal done
        step = min(part, 1 - done)
        done += step
        bar.update(min(step * share, bar.total - bar.n))

    return advance, lambda: advance(1.0)


def _dataset(rows: list[_Row], settings: SpectrumSettings) -> xr.Dataset:
    variables = _per_layer(rows) | _spectra(rows, settings) | _labels(rows)
    norms = variables["operator_norm"].values
    variables["log10_norm_product"] = variable(
        "",
        np.log10(norms[norms > 0]).sum() if (norms > 0).any() else math.nan,
        "log10 of the product of operator norms",
        "1",
        "sum over the analysed layers with a positive norm of log10 operator_norm; a Lipschitz bound of the linear "
        "layers of a plain chain, and of nothing else: no shortcuts, batch norms or non-linearities",
    )
    coords = {**layer_coords([row.layer for row in rows]), "level": LEVELS, "rank": np.arange(1, settings.leading + 1)}
    described = {f.name: getattr(settings, f.name) for f in dataclasses.fields(settings)}
    return xr.Dataset(variables, coords, {"settings": json.dumps(described, default=repr)})


def _numbers(rows: list[_Row], read: Callable[[Solved, ConvOperator], Any], length: int | None = None) -> np.ndarray:
    """A number or a vector from every solved layer, NaN for the others."""
    missing = np.full(length, np.nan) if length else np.nan
    return np.array([read(row.solved, row.operator) if row.solved else missing for row in rows], dtype=np.float64)


PER_LAYER: dict[str, tuple[Callable[[Solved, ConvOperator], float], str, str, str]] = {
    "operator_norm": (
        lambda solved, _: solved.leading[0],
        "operator norm",
        "1",
        "largest singular value of the operator; of lanczos from below, to 1e-5 of itself (1e-10 in double precision)",
    ),
    "operator_norm_upper": (
        lambda solved, _: solved.norm_upper,
        "upper bound of the operator norm",
        "1",
        "certified: the value and its error for methods that give all values; else the norm of the periodic "
        "convolution of which a zero-padded operator is a submatrix, or kernel_bound of one that is periodic itself",
    ),
    "frobenius": (
        lambda _, operator: operator.frobenius,
        "Frobenius norm",
        "1",
        "root of the sum of squares of all singular values, from the kernel and how often each tap reads an input",
    ),
    "kernel_bound": (
        lambda _, operator: operator.kernel_bound,
        "bound from the reshaped kernel",
        "1",
        "root of the number of taps times the largest singular value of the kernel as a C_out x (C_in taps) matrix; an "
        "upper bound of the operator norm, not the norm",
    ),
    "effective_rank": (
        lambda solved, _: solved.values.effective_rank,
        "effective rank",
        "1",
        "exp of the entropy of s_i / sum s (Roy and Vetterli 2007), between 1 and count",
    ),
    "stable_rank": (
        lambda solved, operator: (operator.frobenius / solved.leading[0]) ** 2 if solved.leading[0] else math.nan,
        "stable rank",
        "1",
        "frobenius^2 / operator_norm^2",
    ),
    "median_normalized": (
        lambda solved, _: (
            solved.values.at_levels(np.array([0.5]))[0] / solved.leading[0] if solved.leading[0] else math.nan
        ),
        "median over largest singular value",
        "1",
        "median singular value divided by the largest; larger is a fatter tail",
    ),
    "value_error": (
        lambda solved, _: solved.values_error,
        "error of the values",
        "1",
        "bound of the error of each value of `leading`, over the largest; of lanczos, of the norm and the leading ones",
    ),
    "density_error": (
        lambda solved, _: 0.0 if solved.all_values else solved.values.error,
        "error of the distribution",
        "1",
        "estimated Wasserstein distance between the distribution of values and the true one, over the largest; 0 where "
        "all values are known",
    ),
    "count": (
        lambda _, operator: operator.count,
        "number of singular values",
        "1",
        "the smaller of the numbers of inputs and of outputs; zeros included",
    ),
}


def _per_layer(rows: list[_Row]) -> dict[str, xr.Variable]:
    return {
        name: variable("layer", _numbers(rows, read), long_name, units, definition)
        for name, (read, long_name, units, definition) in PER_LAYER.items()
    }


def _spectra(rows: list[_Row], settings: SpectrumSettings) -> dict[str, xr.Variable]:
    """What has a second dim: level, rank or, if all values are wanted, index."""
    k, levels = settings.leading, len(LEVELS)
    with np.errstate(invalid="ignore"):
        normalized = _numbers(rows, lambda solved, _: solved.values.at_levels() / np.array(solved.leading[0]), levels)
    found = {
        "normalized": variable(
            "layer level",
            normalized,
            "normalised singular values",
            "1",
            "singular value at relative index level (0 largest, 1 smallest) divided by the largest; from lanczos, "
            "quantiles of the estimated distribution",
        ),
        "upper": variable(
            "layer level",
            _numbers(rows, lambda solved, _: solved.upper, levels),
            "upper bound of the singular values",
            "1",
            "certified bound of the singular value at relative index level, not normalised; see operator_norm_upper",
        ),
        "leading": variable(
            "layer rank",
            _numbers(rows, lambda solved, _: solved.leading, k),
            "largest singular values",
            "1",
            "the rank-th largest singular value, each as often as it occurs",
        ),
        "leading_upper": variable(
            "layer rank",
            _numbers(rows, lambda solved, _: solved.leading_upper, k),
            "upper bound of the largest singular values",
            "1",
            "certified bound of the rank-th largest singular value; see operator_norm_upper",
        ),
        "trailing": variable(
            "layer rank",
            _numbers(rows, lambda solved, _: solved.trailing, k),
            "smallest singular values",
            "1",
            "the rank-th smallest singular value; NaN where lanczos did not converge to it",
        ),
    }
    if settings.values:
        known = [row.solved.values.expanded() if row.solved and row.solved.all_values else np.empty(0) for row in rows]
        found["values"] = variable(
            "layer index", padded(known), "singular values", "1", "all singular values, descending, NaN padded"
        )
    return found


def _labels(rows: list[_Row]) -> dict[str, xr.Variable]:
    columns = {
        "method": (lambda row: row.solved.values.method, "method", "what computed the values"),
        "padding": (lambda row: _padding(row.operator), "padding", "the padding that the values are for"),
        "input_size": (lambda row: _size(row.layer.input_shape), "input shape", "of one input, without the batch axis"),
        "output_size": (lambda row: _size(row.layer.output_shape), "output shape", "of one output"),
    }
    labels = {
        name: variable("layer", [read(row) if row.solved else "" for row in rows], long_name, "", definition)
        for name, (read, long_name, definition) in columns.items()
    }
    notes = [row.note for row in rows]
    return labels | {"note": variable("layer", notes, "note", "", "why a layer has no values, or what to know of them")}


def _padding(operator: ConvOperator) -> str:
    return "circular" if operator.circular else "zero"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
