"""How far the nearest error is: statistics of attacks that look for the smallest perturbation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from netprobe.evaluation.conditions import CLEAN, Condition
from netprobe.evaluation.datasets import condition_coords, correct_of, share
from netprobe.evaluation.running import Table
from netprobe.metrics.base import interval, variable
from netprobe.uncertainty import bootstrap_interval, median_interval

MEASURED = ("linf", "l2", "l1", "l0")


def minimum_norms(tables: Mapping[str, Table], conditions: Sequence[Condition], label: np.ndarray) -> xr.Dataset | None:
    """/<model>/minimum_norm: ||x' - x|| of the attacks that minimise it, over images that are right when clean.

    `success` is the share of these images that an attack broke. Mean and median are over the broken ones alone, as the
    field reports them, so read them with `success`: an attack that fails on the hard images has a small mean. NaN for
    images that were wrong already or that the attack did not break. Larger is more robust. None without such attacks.
    """
    chosen = [each for each in conditions if each.role == "minimum norm"]
    if not chosen:
        return None
    right = correct_of(tables[CLEAN], label) == 1
    norms, broken = zip(*(_norms(tables[each.name], each, label, right) for each in chosen), strict=True)
    known = [values[np.isfinite(values)] for values in norms]
    success = share("condition", np.stack(broken), "success rate", "share of initially correct images that were broken")
    about = ("norm of the perturbation", "input", "||x' - x|| in the attack's own norm; NaN where it failed")
    definition = "over the images that were broken"
    mean = variable("condition", [_or_nan(np.mean, k) for k in known], "mean minimum norm", "input", definition)
    median = variable("condition", [_or_nan(np.median, k) for k in known], "median minimum norm", "input", definition)
    found = {
        "min_norm": variable("condition image", np.stack(norms), *about),
        "success": success[""],
        "success_interval": success["_interval"],
        "mean": mean,
        "mean_interval": interval("condition", [bootstrap_interval(k) for k in known], mean, "bootstrap over images"),
        "median": median,
        "median_interval": interval("condition", [median_interval(k) for k in known], median, "bootstrap, exact"),
    }
    bounds = {"bound": ["low", "high"], "image": np.arange(len(label))}
    return xr.Dataset(found, condition_coords(chosen) | bounds)


def _norms(table: Table, condition: Condition, label: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The norms (NaN where it failed), and 1, 0 or -1 for broken, not broken and not asked."""
    outcome = correct_of(table, label)
    broken = np.where(right & (outcome >= 0), outcome == 0, -1).astype(np.int8)
    norm = condition.norm if condition.norm in MEASURED else "l2"
    return np.where(broken == 1, table[f"size_{norm}"], np.nan), broken


def _or_nan(statistic, values: np.ndarray) -> float:
    return float(statistic(values)) if len(values) else np.nan
