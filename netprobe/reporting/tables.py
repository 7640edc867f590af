"""The table of numbers below the figures of a metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from netprobe.plots.reading import Measured, conditions, describe, interval, label, pick, strongest
from netprobe.reporting.estimates import Estimate
from netprobe.reporting.sections import Numbers


class Table(NamedTuple):
    """A caption, the models as heads of the columns, and rows of a name and a cell for each model."""

    caption: str
    models: list[str]
    rows: list[tuple[str, list[str]]]


def numbers_table(every: Sequence[Measured], numbers: Numbers) -> Table:
    """`numbers.variable` of every model along `numbers.dim`, with intervals; clean or under the strongest."""
    chosen = [entry._replace(data=_chosen(entry, numbers.dim)) for entry in every]
    cells = {entry.model: _cells(entry, numbers) for entry in chosen}
    names = list(dict.fromkeys(name for column in cells.values() for name in column))
    rows = [(name, [column.get(name, "–") for column in cells.values()]) for name in names]
    data = chosen[0].data
    about = ", ".join(filter(None, (label(data[numbers.variable]), describe(data) or describe(data, "condition"))))
    return Table(about, list(cells), rows)


def _chosen(entry: Measured, dim: str):
    first = {"norm": "2", "condition": "clean", "perturbation": strongest(entry.data)}
    first |= {"inputs": "images", "count": "all"}
    if "other_site" in entry.data.coords:
        first["other"] = str(entry.data["other"].values[0])
    if "definition" in entry.data.dims:
        first["definition"] = str(entry.data["definition"].values[0])
    return pick(entry.data, **{name: wanted for name, wanted in first.items() if name != dim})


def _cells(entry: Measured, numbers: Numbers) -> dict[str, str]:
    """The estimates in words, by what they belong to."""
    values = entry.data[numbers.variable].transpose(numbers.dim, ...)
    low, high = interval(entry.data, numbers.variable)
    names = _names(entry, numbers.dim)
    return {
        name: Estimate(*map(float, bounds)).write(numbers.digits)
        for name, *bounds in zip(names, values.values, low, high, strict=True)
    }


def _names(entry: Measured, dim: str) -> list[str]:
    if dim in ("condition", "perturbation"):
        return list(map(str, conditions(entry.data, dim)))
    if dim == "image":
        index = entry.data["index"].values if "index" in entry.data else np.arange(entry.data.sizes[dim])
        return [f"#{number}" for number in index]
    return list(map(str, entry.data[dim].values))
