"""The rows of the verdict: for each quantity one estimate for every model, computed from the results alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from netprobe.groups import PREFLIGHT
from netprobe.plots.reading import (
    DRAWN,
    OF_GEOMETRY,
    OF_TRAINING,
    OF_WEIGHTS,
    Measured,
    conditions,
    interval,
    measured,
    models_of,
    models_with,
    pick,
    select,
    strongest_of_families,
)
from netprobe.plots.spectrum import widest_fit
from netprobe.reporting.estimates import Estimate, number, of_draws
from netprobe.uncertainty import decibel, resampled_means

NORM = "2"
ELSEWHERE = OF_WEIGHTS + OF_TRAINING + OF_GEOMETRY
"""Groups that no probe measured."""


@dataclass(frozen=True)
class Row:
    """One quantity of every model for which it was measured; `hint` says how to read its direction."""

    quantity: str
    hint: str
    unit: str
    digits: int
    estimates: Mapping[str, Estimate]

    def value(self, model: str) -> str:
        """The model's estimate in words, without its interval."""
        known = model in self.estimates
        return number(self.estimates[model].value, self.digits, self.unit) if known else "not measured"

    def interval(self, model: str) -> str:
        """The interval of the model's estimate in words; empty if there is none."""
        return self.estimates[model].write_interval(self.digits) if model in self.estimates else ""

    def cell(self, model: str) -> str:
        """Both."""
        return f"{self.value(model)} {self.interval(model)}".rstrip()


def every_model(results: xr.DataTree, metric: str) -> list[Measured]:
    """The Datasets of `metric` of the models that have it; none if no model has."""
    having = models_with(results, metric)
    return measured(results, metric, having) if having else []


def late(sites: int) -> slice:
    """The last third of so many sites, at least one."""
    return slice(sites - max(round(sites / 3), 1), sites)


def accuracy_rows(results: xr.DataTree) -> Iterator[Row]:
    """Accuracy on clean images and under each perturbation."""
    every = every_model(results, "accuracy")
    for each in conditions(every[0].data, "condition") if every else []:
        name = "clean" if each.name == "clean" else f"under {each}"
        estimates = {e.model: read(e, "accuracy", 100, condition=each.name) for e in every}
        yield Row(f"Accuracy, {name}", "higher: more images correct", "%", 1, estimates)


def psr_rows(results: xr.DataTree) -> Iterator[Row]:
    """PSR of the last third of the sites and its growth, under the strongest perturbation of each family."""
    every = every_model(results, "psr")
    names = strongest_of_families(every[0].data) if every else []
    chosen = [select(every, perturbation=name, norm=NORM) for name in names]
    for entries in chosen:
        level = {e.model: _late_psr(e.data) for e in entries}
        yield Row(f"PSR (L2), last third of the sites, {_under(entries)}", "lower: less disturbed", "dB", 1, level)
    for entries in chosen:
        change = {e.model: _psr_change(e.data) for e in entries}
        yield Row(f"PSR (L2), last site minus first, {_under(entries)}", "lower: grows less", "dB", 1, change)


def alpha_rows(results: xr.DataTree) -> Iterator[Row]:
    """Exponent of the clean eigenspectrum, first definition, at the site with the most ranks fitted."""
    every = every_model(results, "spectrum")
    for definition in every[0].data["definition"].values[:1] if every else []:
        chosen = select(every, definition=definition, condition="clean")
        sites = {e.model: widest_fit(e.data) for e in chosen}
        estimates = {e.model: read(e, "alpha", site=sites[e.model]) for e in chosen}
        quantity = f"Exponent α of the {definition} spectrum, clean, at {_named(sites)}"
        yield Row(quantity, "larger: variance in fewer dimensions", "", 2, estimates)


def shift_rows(results: xr.DataTree) -> Iterator[Row]:
    """Correlation shift at the last site, under the strongest perturbation of each family."""
    every = every_model(results, "correlation")
    for name in strongest_of_families(every[0].data) if every else []:
        chosen = select(every, perturbation=name)
        sites = {e.model: str(e.data["site"].values[-1]) for e in chosen}
        estimates = {e.model: read(e, "shift", site=sites[e.model]) for e in chosen}
        quantity = f"Correlation shift at {_named(sites)}, {_under(chosen)}"
        yield Row(quantity, "lower: structure better kept", "", 2, estimates)


def finding_rows(results: xr.DataTree) -> Iterator[Row]:
    """How many things the pre-flight check found; nothing where there was nothing to probe."""
    if not any(models_with(results, metric) for metric in DRAWN if metric not in ELSEWHERE):
        return
    found = results[PREFLIGHT]["model"].values if PREFLIGHT in results.children else np.array([])
    counts = {model: Estimate(float((found == model).sum())) for model in models_of(results)}
    yield Row("Pre-flight findings", "fewer: fewer reasons for doubt", "", 0, counts)


def _under(entries: Sequence[Measured]) -> str:
    return f"under {conditions(entries[0].data)[0]}"


def read(entry: Measured, name: str, scale: float = 1, **labels: str) -> Estimate:
    """`scale` times the variable `name` at these labels, with its interval."""
    data = pick(entry.data, **labels)
    return Estimate(*(scale * float(value) for value in (data[name], *interval(data, name))))


def _named(sites: Mapping[str, str]) -> str:
    """The site if all models share it, otherwise the site of each."""
    if len(set(sites.values())) == 1:
        return next(iter(sites.values()))
    return "the last site (" + ", ".join(f"{model}: {site}" for model, site in sites.items()) + ")"


def _late_psr(data: xr.Dataset) -> Estimate:
    """Over the sites that have a PSR: a silent one has none, and says nothing about the others."""
    where = late(data.sizes["site"])
    values, draws = data["psr_db"].values[where], _psr_draws(data)[where]
    heard = ~np.isnan(values)
    return of_draws(values[heard].mean(), draws[heard].mean(0)) if heard.any() else Estimate(math.nan)


def _psr_change(data: xr.Dataset) -> Estimate:
    values, draws = data["psr_db"].values, _psr_draws(data)
    with np.errstate(invalid="ignore"):  # from -inf to -inf there is no change to speak of
        return of_draws(values[-1] - values[0], draws[-1] - draws[0])


def _psr_draws(data: xr.Dataset) -> np.ndarray:
    """Bootstrap draws over images of the PSR in dB, (site, draw); NaN if the results lack the images."""
    if "psr" not in data:
        return np.full((data.sizes["site"], 1), np.nan)
    return decibel(resampled_means(data["psr"].transpose("site", "image").values))
