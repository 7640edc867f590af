"""A part of the page: its figures, how to read them, and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import xarray as xr
from matplotlib.axes import Axes

from netprobe.plots.reading import conditions, measured, pick, same_sites, strongest_of_families

MOST_FAMILIES = 4  # figures of one kind; the other perturbations are in the CSV file


class Figure(NamedTuple):
    """A caption, and the plot to draw as `draw(ax=...)`."""

    caption: str
    draw: Callable[..., Axes]


class Numbers(NamedTuple):
    """The table below the figures: `variable` along `dim`, written with so many digits."""

    variable: str
    dim: str
    digits: int


@dataclass(frozen=True)
class Section:
    """One metric on the page; `columns` are the variables of its CSV file, with their intervals."""

    metric: str
    title: str
    reading: str
    figures: Callable[[xr.DataTree, list[str]], Iterator[Figure]]
    numbers: Numbers
    columns: tuple[str, ...]
    per_perturbation: bool = False


def shown_perturbations(results: xr.DataTree, metric: str, models: list[str], dim: str = "perturbation") -> list[str]:
    """The perturbations (or conditions) that have figures: the strongest of each of the first families."""
    return strongest_of_families(measured(results, metric, models)[0].data, dim)[:MOST_FAMILIES]


def alike(results: xr.DataTree, metric: str, models: list[str]) -> Iterator[tuple[list[str], str]]:
    """All models together if they share their layers, else each by itself, with its name for the caption."""
    if same_sites(measured(results, metric, models)):
        yield models, ""
        return
    for model in models:
        yield [model], f", {model}"


def for_each(
    plot: Callable[..., Axes], metric: str, caption: str, results: xr.DataTree, models: list[str]
) -> Iterator[Figure]:
    data = measured(results, metric, models)[0].data
    for name in shown_perturbations(results, metric, models):
        under = conditions(pick(data, perturbation=name))[0]
        yield Figure(f"{caption}, under {under}", partial(plot, results, perturbation=name, models=models))
