"""The rows of the verdict that tell of the weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from netprobe.plots.reading import Measured, conditions, measured, models_with, select, strongest_of_families
from netprobe.reporting.estimates import Estimate
from netprobe.reporting.rows import Row, every_model, read
from netprobe.weights.tail import paired_difference


def weight_rows(results: xr.DataTree) -> Iterator[Row]:
    """Norms, tails, sparsity of the first layer, dead filters, and the drift of batch norm."""
    yield from _spectrum_rows(every_model(results, "singular_values"))
    yield from filter_rows(results)
    yield from _drift_rows(every_model(results, "batch_norm_drift"))


def filter_rows(results: xr.DataTree) -> Iterator[Row]:
    """Squared Hoyer ratio of the filters of the first layer, and how many filters are dead."""
    every = every_model(results, "filters")
    if not every:
        return
    first = {entry.model: str(entry.data["layer"].values[0]) for entry in every}
    names = ", ".join(dict.fromkeys(first.values()))
    ratio = {entry.model: read(entry, "hoyer", layer=first[entry.model]) for entry in every}
    yield Row(f"Squared Hoyer ratio of the filters, {names}", "smaller: sparser filters", "", 3, ratio)
    dead = {entry.model: Estimate(float(entry.data["dead"].sum())) for entry in every}
    yield Row("Dead filters, all layers", "fewer: more of the width in use", "", 0, dead)


def tail_comparison(results: xr.DataTree, one: str, other: str) -> Iterator[str]:
    """The paired comparison of the tails of the singular values, if both models have some layer in common."""
    if {one, other} - set(models_with(results, "singular_values")):
        return
    first, second = (entry.data["median_normalized"] for entry in measured(results, "singular_values", [one, other]))
    found = paired_difference(first, second)
    if found.layers:
        yield f"Median singular value / largest, {other} minus {one}, mean over layers: {found}."


def _spectrum_rows(every: list[Measured]) -> Iterator[Row]:
    if not every:
        return
    product = {entry.model: Estimate(_scalar(entry.data, "log10_norm_product")) for entry in every}
    yield Row(
        "log10 of the product of the operator norms", "smaller: tighter bound of the linear layers", "", 1, product
    )
    tail = {entry.model: Estimate(_mean(entry.data["median_normalized"])) for entry in every}
    hint = "larger: fatter tail, more directions passed on alike"
    yield Row("Median singular value / largest, mean over layers", hint, "", 3, tail)


def _drift_rows(every: list[Measured]) -> Iterator[Row]:
    for name in strongest_of_families(every[0].data, "condition") if every else []:
        chosen = select(every, condition=name)
        shift = {entry.model: Estimate(_mean(entry.data["mean_shift"])) for entry in chosen}
        under = "clean" if name == "clean" else f"under {conditions(chosen[0].data, 'condition')[0]}"
        hint = "smaller: activations like those of training"
        yield Row(f"Shift of the batch-norm means, mean over layers, {under}", hint, "σ", 2, shift)


def _scalar(data: xr.Dataset, name: str) -> float:
    return float(data[name]) if name in data else np.nan


def _mean(values: xr.DataArray) -> float:
    """Over the layers that have a number; NaN if none has."""
    known = values.values[np.isfinite(values.values)]
    return float(known.mean()) if known.size else np.nan
