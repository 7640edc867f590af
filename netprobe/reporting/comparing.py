"""How one model compares with another, in sentences that hold nothing but what was computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import xarray as xr

from netprobe.plots.reading import (
    conditions,
    interval,
    measured,
    models_with,
    pick,
    same_sites,
    select,
    strongest_of_families,
)
from netprobe.reporting.estimates import number, of_draws
from netprobe.reporting.evaluation_rows import evaluated
from netprobe.reporting.frequency_comparison import frequencies
from netprobe.reporting.geometry_rows import distance_comparison
from netprobe.reporting.rows import NORM, Row, alpha_rows, late, psr_rows, shift_rows
from netprobe.reporting.weight_rows import filter_rows, tail_comparison
from netprobe.uncertainty import resampled_means


def compare(results: xr.DataTree, one: str, other: str) -> Iterator[str]:
    """Accuracy (paired on the same images), frequencies of perturbations, PSR of the late sites, and so on."""
    yield from _accuracy(results, one, other)
    yield from frequencies(results, one, other)
    yield from _psr(results, one, other)
    yield from _intervals([*alpha_rows(results), *shift_rows(results), *filter_rows(results)], one, other)
    yield from distance_comparison(results, one, other)
    yield from tail_comparison(results, one, other)


def _accuracy(results: xr.DataTree, one: str, other: str) -> Iterator[str]:
    if {one, other} - set(models_with(results, "accuracy")):
        yield from evaluated(results, one, other)
        return
    first, second = (entry.data for entry in measured(results, "accuracy", [one, other]))
    if not first["label"].equals(second["label"]):
        return  # other images: nothing to pair
    for name in strongest_of_families(first, "condition"):
        correct = (pick(data, condition=name)["correct"].values.astype(float) for data in (second, first))
        yield f"{_condition(pick(first, condition=name), 'condition')}: {_paired(*correct, one, other)}"


def _paired(correct: np.ndarray, reference: np.ndarray, one: str, other: str) -> str:
    """The difference of two accuracies, with the bootstrap of the per-image differences."""
    difference = 100 * (correct - reference)
    estimate = of_draws(difference.mean(), resampled_means(difference))
    zero = "includes" if estimate.low <= 0 <= estimate.high else "excludes"
    return (
        f"{other} classifies {number(100 * correct.mean(), 1, '%')} and {one} "
        f"{number(100 * reference.mean(), 1, '%')} of the same {len(correct)} images correctly, a paired "
        f"difference of {estimate.write(1, 'points')}; the interval {zero} zero."
    )


def _psr(results: xr.DataTree, one: str, other: str) -> Iterator[str]:
    if {one, other} - set(models_with(results, "psr")):
        return
    every = measured(results, "psr", [one, other])
    if not same_sites(every):
        yield from _intervals(psr_rows(results), one, other)
        return
    for name in strongest_of_families(every[0].data):
        reference, data = (entry.data for entry in select(every, perturbation=name, norm=NORM))
        where = late(data.sizes["site"])
        yield f"{_condition(data)}: {_sites_below(data.isel(site=where), reference.isel(site=where), one, other)}"


def _condition(data: xr.Dataset, dim: str = "perturbation") -> str:
    condition = conditions(data, dim)[0]
    return "Clean" if condition.name == "clean" else f"Under {condition}"


def _sites_below(data: xr.Dataset, reference: xr.Dataset, one: str, other: str) -> str:
    """At how many sites PSR is below that of the reference, and at how many the intervals are apart too."""
    below = data["psr_db"].values < reference["psr_db"].values
    highest, lowest = interval(data, "psr_db")[1], interval(reference, "psr_db")[0]
    sites = data["site"].values
    where = f"{sites[0]} to {sites[-1]}" if below.size > 1 else sites[0]
    said = f"{other} has a lower PSR (L2) than {one} at {below.sum()} of {below.size} sites in the last third ({where})"
    if below.any() and np.isfinite([highest, lowest]).all():
        said += f", at {(below & (highest < lowest)).sum()} of them with 95 % intervals that do not overlap"
    return f"{said}."


def _intervals(rows: Iterable[Row], one: str, other: str) -> Iterator[str]:
    for row in rows:
        if {one, other} <= set(row.estimates) and row.estimates[one].bounded and row.estimates[other].bounded:
            overlap = "overlap" if row.estimates[one].overlaps(row.estimates[other]) else "do not overlap"
            yield f"{row.quantity}: {other} {row.cell(other)}, {one} {row.cell(one)}; the intervals {overlap}."
