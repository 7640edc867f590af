"""The results of a sweep as a labelled Dataset over code, cutoff and seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from netprobe.metrics.base import interval, variable
from netprobe.training.partial.codes import ADVERSARIAL, NATURAL, Code
from netprobe.training.partial.layers import END, Layer
from netprobe.training.partial.units import Cell, Unit, Whole
from netprobe.uncertainty import t_interval, wilson

LEARNT = 0.05
"""A network has converged if its clean accuracy is this much of the way from chance to 1, or more."""

QUANTITIES = {
    "clean_accuracy": ("clean accuracy", "1", "share of all test images classified as labelled"),
    "clean_loss": ("clean loss", "nat", "mean cross-entropy over all test images"),
    "adversarial_accuracy": (
        "adversarial accuracy",
        "1",
        "share of all test images classified as labelled after the last step of the test attack",
    ),
    "adversarial_loss": (
        "adversarial loss",
        "nat",
        "mean cross-entropy over all test images after the last step of the test attack",
    ),
}
BOUNDS = {"bound": ["low", "high"]}

Results = Callable[[Unit], dict[str, Any] | None]


def assembled(
    codes: Sequence[Code], cutoffs: Sequence[int], seeds: Sequence[int], layers: list[Layer], chance: float, of: Results
) -> xr.Dataset:
    """What is known of every unit, NaN (or -1) where nothing is; see `sweep` for the variables."""
    grid = [[[_of_cell(of, code, c, seed, len(layers)) for seed in seeds] for c in cutoffs] for code in codes]
    ends = [[of(Whole(way, seed)) for seed in seeds] for way in (NATURAL, ADVERSARIAL)]
    found = _measured("", "code cutoff seed", grid, chance) | _measured("whole_", "training seed", ends, chance)
    data = xr.Dataset(found, _coords(codes, cutoffs, seeds, layers) | BOUNDS)
    return data.assign(_trainable(codes, cutoffs, layers)).assign(_summary(data))


def _of_cell(of: Results, code: Code, cutoff: int, seed: int, layers: int) -> dict[str, Any] | None:
    """None, too, where a code has no such cell: a single layer after the last one."""
    return None if code.single and cutoff == layers else of(Cell(code, cutoff, seed))


def _measured(prefix: str, dims: str, grid: list, chance: float) -> dict[str, xr.Variable]:
    """The quantities with their intervals, and whether training converged, of nested lists of results."""
    results, names = np.array(grid, dtype=object), {"accuracy": "Wilson score interval", "loss": "bootstrap"}
    found: dict[str, xr.Variable] = {}
    for name, (long_name, units, definition) in QUANTITIES.items():
        condition, _, quantity = name.partition("_")
        rows = [_estimate(result, condition, quantity) for result in results.flat]
        values = np.array(rows, dtype=float).reshape(*results.shape, 3)
        found[prefix + name] = variable(dims, values[..., 0], long_name, units, definition)
        found[f"{prefix}{name}_interval"] = interval(dims, values[..., 1:], found[prefix + name], names[quantity])
    clean = found[f"{prefix}clean_accuracy"].values
    known = np.array([result is not None for result in results.flat]).reshape(results.shape)
    learnt = clean >= chance + LEARNT * (1 - chance)
    return found | {f"{prefix}converged": _converged(dims, np.where(known, learnt, -1), chance)}


def _estimate(result: dict[str, Any] | None, condition: str, quantity: str) -> list[float]:
    """Value, lower and upper bound."""
    if result is None or not result["images"]:
        return [np.nan] * 3
    if quantity == "loss":
        return [result[f"{condition}_loss"], *result[f"{condition}_loss_interval"]]
    right, images = result[f"{condition}_correct"], result["images"]
    return [right / images, *wilson(right, images)]


def _converged(dims: str, values: np.ndarray, chance: float) -> xr.Variable:
    limit = chance + LEARNT * (1 - chance)
    about = f"1 if clean accuracy is {limit:.4g} or more (chance is {chance:.4g}), 0 if not, -1 if not computed"
    return variable(dims, values.astype(np.int8), "training converged", "1", about)


def _coords(
    codes: Sequence[Code], cutoffs: Sequence[int], seeds: Sequence[int], layers: list[Layer]
) -> dict[str, tuple[Any, Any] | list]:
    names = [*(layer.name for layer in layers), END]
    sizes = np.array([layer.parameters for layer in layers])
    adversarial = [[_adversarial(code, cutoff, len(layers)) for cutoff in cutoffs] for code in codes]
    both = ("code", "cutoff")
    return {
        "code": [code.name for code in codes],
        "stage1": ("code", [code.stage1 for code in codes]),
        "stage2": ("code", [code.stage2 for code in codes]),
        "frozen": ("code", [code.frozen for code in codes]),
        "cutoff": list(cutoffs),
        "layer": ("cutoff", [names[cutoff] for cutoff in cutoffs]),
        "adversarial_layers": (both, [[len(at) for at in row] for row in adversarial]),
        "adversarial_parameters": (both, [[int(sizes[at].sum()) for at in row] for row in adversarial]),
        "place": np.arange(len(layers)),
        "place_layer": ("place", [layer.name for layer in layers]),
        "training": [NATURAL, ADVERSARIAL],
        "seed": list(seeds),
    }


def _adversarial(code: Code, cutoff: int, layers: int) -> list[int]:
    return [] if code.single and cutoff == layers else code.adversarial(cutoff, layers)


def _trainable(codes: Sequence[Code], cutoffs: Sequence[int], layers: list[Layer]) -> dict[str, xr.Variable]:
    def size(code: Code, cutoff: int) -> int:
        if code.single and cutoff == len(layers):
            return 0
        return sum(layers[at].parameters for at in code.retrained(cutoff, len(layers)))

    values = np.array([[size(code, cutoff) for cutoff in cutoffs] for code in codes])
    about = "numbers that stage 2 trains: the sum over the retrained layers"
    return {
        "trainable_parameters": variable("code cutoff", values, "parameters trained in stage 2", "1", about),
        "layer_parameters": variable(
            "place", [layer.parameters for layer in layers], "parameters of the layer", "1", "numbers that it learns"
        ),
    }


def _summary(data: xr.Dataset) -> dict[str, xr.Variable]:
    """For every code, and both whole networks, the mean over what converged, and a t interval over seeds."""
    found: dict[str, xr.Variable] = {}
    for name, (long_name, units, _) in QUANTITIES.items():
        cells = data[name].where(data["converged"] == 1).mean("cutoff")
        ends = data[f"whole_{name}"].where(data["whole_converged"] == 1)
        about = "mean over cutoffs, then over seeds, of the cells that converged"
        found |= _mean(f"mean_{name}", "code", cells, f"mean {long_name}", units, about)
        about = "mean over the seeds that converged"
        found |= _mean(f"mean_whole_{name}", "training", ends, f"{long_name} of the whole network", units, about)
    computed, failed = ((data["converged"] >= 0), (data["converged"] == 0))
    counts = {"computed_cells": (computed, "computed"), "failed_cells": (failed, "in which stage 2 did not converge")}
    for name, (those, what) in counts.items():
        numbers = those.sum(("cutoff", "seed")).values
        found[name] = variable("code", numbers, name.replace("_", " "), "1", f"number of cells {what}")
    return found


def _mean(name: str, dim: str, per_seed: xr.DataArray, *about: str) -> dict[str, xr.Variable]:
    rows = per_seed.transpose(dim, "seed").values
    known = [row[np.isfinite(row)] for row in rows]
    mean = variable(dim, [row.mean() if row.size else np.nan for row in known], *about)
    return {name: mean, f"{name}_interval": interval(dim, [*map(t_interval, known)], mean, "Student t over seeds")}
