"""Several trainings of one network: what they measure, averaged, with intervals over trainings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from netprobe.errors import NetprobeError, unknown
from netprobe.evaluation.comparison import MINUS
from netprobe.groups import COMPARISON, NOT_A_MODEL
from netprobe.metrics.base import interval, variable
from netprobe.store import provenance, stamped
from netprobe.uncertainty import t_interval, welch_interval

OVER = "mean over trainings: "
BARE = ("log_spectrum",)
"""Estimates that have no interval."""
STUDENT, WELCH = "Student t over trainings", "Welch's t interval over trainings"
SHARES = ("accuracy", "worst_accuracy", "mean_accuracy", "group_accuracy", "error", "mean_error", "success")
LENGTHS = ("input", "input²")
"""Units of what is at least 0."""
NORMS = ("mean_frobenius", "mean_operator")
"""And names of what is, whatever its unit."""


def over_seeds(results: xr.DataTree, groups: Mapping[str, Sequence[str]] | None = None) -> xr.DataTree:
    """Results of networks that were trained several times, a group in the place of its members.

    Parameters
    ----------
    results : what `npb.evaluate` returns, or any other results with a group for each model
    groups : names of models by the name of their group, at least two each; None takes the models "plain-0", "plain-1",
        ... as the group "plain", and leaves out models that are called otherwise

    Returns
    -------
    DataTree like `results`, with a model for each group: every estimate (a variable that has an interval) is its mean
    over the members, in the interval's place the 95 % t interval of that mean. Values of single images are left out,
    and so are differences from a baseline. NaN where a member has none. So the plots and the report are those of the
    results; attributes are those that all members share. With the evaluation of two groups or more

        /comparison     for every pair of groups, later minus earlier, the difference of mean accuracies by condition,
                        with Welch's t interval; the seeds of two groups are not paired

    These intervals say how far other trainings would differ. They take the images as given.

    >>> import netprobe as npb
    >>> nets, digits = {f"net-{seed}": npb.load("digits_cnn") for seed in range(3)}, npb.data.load("digits", limit=20)
    >>> tree = npb.evaluate(nets, digits, None, doubts=False, preflight=False, progress=False)
    >>> npb.over_seeds(tree)["net/evaluation/accuracy_interval"].dims
    ('condition', 'bound')
    """
    members = {name: list(each) for name, each in groups.items()} if groups is not None else _numbered(results)
    _check(members, results)
    nodes = {
        f"/{name}/{metric}": _mean([results[each][metric].to_dataset() for each in those], metric, name)
        for name, those in members.items()
        for metric in _shared(results, those)
    }
    compared = _comparison(results, members)
    if compared is not None:
        nodes[f"/{COMPARISON}"] = compared
    about = provenance(results) if "provenance" in results.attrs else {}
    return stamped({path: data for path, data in nodes.items() if data.data_vars}, about | {"groups": members})


def _numbered(results: xr.DataTree) -> dict[str, list[str]]:
    """The models "plain-0", "plain-1", ... by "plain"."""
    found: dict[str, list[str]] = {}
    for name in _models(results):
        base = re.fullmatch(r"(.+)-\d+", name)
        if base:
            found.setdefault(base[1], []).append(name)
    if not found:
        raise NetprobeError(
            f"none of {', '.join(_models(results))} is one training of several: call models NAME-0, NAME-1, ..., or "
            "name the groups"
        )
    return found


def _models(results: xr.DataTree) -> list[str]:
    return [name for name in results.children if name not in NOT_A_MODEL]


def _check(groups: Mapping[str, Sequence[str]], results: xr.DataTree) -> None:
    for group, members in groups.items():
        for name in members:
            if name not in _models(results):
                raise unknown(f"model of the group {group!r}", name, _models(results))
        if len(set(members)) < 2:
            raise NetprobeError(
                f"the group {group!r} is {', '.join(members) or 'empty'}: an interval needs two trainings or more"
            )


def _shared(results: xr.DataTree, members: Sequence[str]) -> list[str]:
    """The metrics that all members have, but for differences from a baseline, which may be a member."""
    first, *others = (results[name].children for name in members)
    return [
        metric
        for metric, node in first.items()
        if all(metric in other for other in others) and "baseline" not in node.attrs
    ]


def _mean(every: Sequence[xr.Dataset], metric: str, group: str) -> xr.Dataset:
    found: dict[str, xr.Variable] = {}
    for name in _estimates(every[0]):
        first = every[0][name]
        values = np.stack([_like(data, every[0], name, metric, group) for data in every], -1)
        about = (str(first.attrs.get(key, "")) for key in ("long_name", "units", "definition"))
        dims, (long_name, units, definition) = " ".join(map(str, first.dims)), about
        found[name] = variable(dims, values.mean(-1), long_name, units, OVER + definition)
        if name not in BARE:
            bounds = np.clip(t_interval(values), *_possible(name, units))
            found[f"{name}_interval"] = interval(dims, bounds, found[name], STUDENT)
    used = {dim for each in found.values() for dim in each.dims}
    coords = {name: each for name, each in every[0].coords.items() if set(each.dims) <= used}
    return xr.Dataset(found, coords, _agreed([data.attrs for data in every]))


def _agreed(every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all members say of themselves, such as how many samples they were measured on."""
    first, *others = every
    return {key: value for key, value in first.items() if all(_same(value, other.get(key)) for other in others)}


def _same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def _possible(name: str, units: str) -> tuple[float, float]:
    """What a mean of estimates of that name can be: few trainings have wide intervals, that do not know."""
    return (0.0, 1.0) if name in SHARES else (0.0 if units in LENGTHS or name in NORMS else -np.inf, np.inf)


def _estimates(data: xr.Dataset) -> list[str]:
    return [str(name) for name in data.data_vars if f"{name}_interval" in data or name in BARE]


def _like(data: xr.Dataset, first: xr.Dataset, name: str, metric: str, group: str) -> np.ndarray:
    """The values of `name`, which must be of the same conditions, sites, ... in every member."""
    for dim in first[name].dims:
        if name not in data or not np.array_equal(data[dim].values, first[dim].values):
            raise NetprobeError(f"the trainings of {group!r} differ in the {dim}s of {metric!r}: measure them alike")
    return data[name].transpose(*first[name].dims).values


def _comparison(results: xr.DataTree, groups: Mapping[str, Sequence[str]]) -> xr.Dataset | None:
    """Differences of mean accuracies, later groups minus earlier ones."""
    names = [name for name, members in groups.items() if "evaluation" in _shared(results, members)]
    pairs = [(one, other) for k, one in enumerate(names) for other in names[k + 1 :]]
    if not pairs:
        return None
    first = results[groups[names[0]][0]]["evaluation"].to_dataset()
    seen = {group: _accuracies(results, groups[group], first, group) for group in names}
    both = "pair condition"
    difference = variable(
        both,
        np.stack([seen[other].mean(-1) - seen[one].mean(-1) for one, other in pairs]),
        "difference of accuracies",
        "1",
        "mean accuracy over trainings minus that of the reference",
    )
    bounds = np.stack([welch_interval(seen[other], seen[one]) for one, other in pairs]).clip(-1, 1)
    coords = {name: each for name, each in first.coords.items() if each.dims == ("condition",)} | {
        "pair": ("pair", [f"{other}{MINUS}{one}" for one, other in pairs]),
        "model": ("pair", [other for _, other in pairs]),
        "reference": ("pair", [one for one, _ in pairs]),
        "bound": ["low", "high"],
    }
    counts = {"trainings": "model", "reference_trainings": "reference"}
    found = {"difference": difference, "difference_interval": interval(both, bounds, difference, WELCH)} | {
        name: variable("pair", [len(groups[group]) for group in coords[whose][1]], "trainings", "1", f"of the {whose}")
        for name, whose in counts.items()
    }
    return xr.Dataset(found, coords)


def _accuracies(results: xr.DataTree, members: Sequence[str], first: xr.Dataset, group: str) -> np.ndarray:
    """(condition, training), under the conditions of `first`."""
    every = (results[name]["evaluation"].to_dataset() for name in members)
    return np.stack([_like(data, first, "accuracy", "evaluation", group) for data in every], -1)
