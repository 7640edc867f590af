"""Models against each other on the same images: paired differences of accuracy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from netprobe.evaluation.conditions import Condition
from netprobe.evaluation.datasets import condition_coords, correct_of
from netprobe.evaluation.paired import Paired
from netprobe.evaluation.running import Table
from netprobe.metrics.base import interval, variable

MINUS = " minus "


def comparison(
    tables: Mapping[str, Mapping[str, Table]], conditions: Sequence[Condition], label: np.ndarray
) -> xr.Dataset | None:
    """/comparison: for every pair of models, later minus earlier, the difference of their accuracies per condition.

    Every model is attacked anew, so under an attack the pairing is of images, not of inputs. Intervals are Newcombe's
    for paired shares, p values McNemar's exact ones (see `netprobe.evaluation.paired`), not corrected for their
    number. None for a single model.
    """
    pairs = list(itertools.combinations(tables, 2))
    if not pairs:
        return None
    found = [[_paired(tables[other][c.name], tables[one][c.name], label) for c in conditions] for one, other in pairs]

    def numbers(of) -> np.ndarray:
        return np.array([[of(paired) for paired in row] for row in found])

    both = "pair condition"
    difference = variable(
        both, numbers(lambda p: p.difference), "difference of accuracies", "1", "accuracy minus that of the reference"
    )
    how = "Newcombe's interval for paired shares"
    variables = {
        "difference": difference,
        "difference_interval": interval(both, numbers(lambda p: p.interval), difference, how),
        "p_value": variable(both, numbers(lambda p: p.p_value), "p value", "1", "exact McNemar test, two-sided"),
        "only_model": variable(both, numbers(lambda p: p.only_first), "only the model is right", "images", "count"),
        "only_reference": variable(
            both, numbers(lambda p: p.only_second), "only the reference is right", "images", "count"
        ),
    }
    coords = {
        "pair": ("pair", [f"{other}{MINUS}{one}" for one, other in pairs]),
        "model": ("pair", [other for _, other in pairs]),
        "reference": ("pair", [one for one, _ in pairs]),
        "bound": ["low", "high"],
    }
    return xr.Dataset(variables, condition_coords(conditions) | coords)


def _paired(one: Table, other: Table, label: np.ndarray) -> Paired:
    known = one.done & other.done
    return Paired.of(correct_of(one, label)[known] == 1, correct_of(other, label)[known] == 1)
