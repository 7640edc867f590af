"""All representations of a run in one list: every site of every model under every condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from netprobe.metrics.base import interval, variable

DIMS = "condition site other"


class Name(NamedTuple):
    """Whose activations, where, under which condition; a matrix from elsewhere has the first alone."""

    model: str
    condition: str = ""
    site: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, self))


def models_with(tree: xr.DataTree, group: str) -> list[str]:
    """The models that have a Dataset `group`, in their order."""
    return [name for name, node in tree.children.items() if group in node.children]


def names_of(tree: xr.DataTree, group: str) -> list[Name]:
    """Every representation in the Datasets `group`: model by model, condition by condition, site by site."""
    return [
        Name(model, str(condition), str(site))
        for model in models_with(tree, group)
        for condition in tree[model][group]["condition"].values
        for site in tree[model][group]["site"].values
    ]


class Estimate(NamedTuple):
    """Of each representation with each other one: values (representation, other), bounds (..., 2) or None, and the
    long name, units, definition and kind of interval."""

    values: np.ndarray
    bounds: np.ndarray | None
    about: tuple[str, str, str]
    how: str = ""


def datasets(
    tree: xr.DataTree, group: str, others: Sequence[Name], estimates: dict[str, Estimate]
) -> dict[str, xr.Dataset]:
    """For every model its rows of the estimates, (condition, site, other), with the coordinates that it has in `tree`.

    `other` is the whole name; `other_model`, `other_condition` and `other_site` are its parts.
    """
    rows, found = names_of(tree, group), {}
    coords = {"other": list(map(str, others))} | {
        f"other_{part}": ("other", [getattr(name, part) for name in others]) for part in Name._fields
    }
    for model in models_with(tree, group):
        chosen = [row for row, name in enumerate(rows) if name.model == model]
        like = tree[model][group].to_dataset()
        shape = (like.sizes["condition"], like.sizes["site"])
        variables = {}
        for name, each in estimates.items():
            variables[name] = variable(DIMS, each.values[chosen].reshape(*shape, -1), *each.about)
            if each.bounds is not None:
                bounds = each.bounds[chosen].reshape(*shape, -1, 2)
                variables[f"{name}_interval"] = interval(DIMS, bounds, variables[name], each.how)
        kept = {k: v for k, v in like.coords.items() if set(v.dims) <= {"condition", "site"}}
        found[model] = xr.Dataset(variables, kept | coords | {"bound": ["low", "high"]}, like.attrs)
    return found
