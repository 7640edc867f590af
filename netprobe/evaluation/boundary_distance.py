"""How far the decision boundary is, as the mean square of the perturbation: medians over images, repeated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import xarray as xr

from netprobe.evaluation.conditions import CLEAN, Condition
from netprobe.evaluation.datasets import correct_of
from netprobe.evaluation.running import Table
from netprobe.metrics.base import interval, variable
from netprobe.uncertainty import LEVEL, resampled_medians


def boundary_distances(
    tables: Mapping[str, Table], conditions: Sequence[Condition], label: np.ndarray, shape: tuple[int, ...]
) -> xr.Dataset | None:
    """/<model>/boundary_distance: of L2 minimum-norm attacks, median over images of ||x' - x||^2 / d, d = prod(shape).

    square (repeat, image)      of every attack; inf where the class did not change, NaN for images that were left alone
                                because they were wrong already
    repeat_median (repeat)      its median over the images that were attacked
    median (attack)             the mean of that over repeats of an attack: "boundary-1", "boundary-2", ..., if their
                                settings are equal, are repeats of "boundary"; the interval is a bootstrap over images,
                                alike in all repeats

    So a failure counts as farther than every success, and where half of the images fail the median is inf. Larger is
    more robust, as far as the attack is a good one. None without such attacks.
    """
    chosen = [each for each in conditions if each.role == "minimum norm" and each.norm == "l2"]
    if not chosen:
        return None
    right = correct_of(tables[CLEAN], label) == 1
    square = np.stack([_squares(tables[each.name], tables[CLEAN], each, right, prod(shape)) for each in chosen])
    attacks = [_repeated(each, chosen) for each in chosen]
    repeats = {name: square[[i for i, attack in enumerate(attacks) if attack == name]] for name in attacks}
    about = ("squared distance", "input²", "||x' - x||^2 / d of the nearest input of another class that was found")
    each_median = [_median(row[None]) for row in square]
    over = "mean over repeats of the median over images; inf where half of them withstand the attack"
    median = variable("attack", [_median(rows) for rows in repeats.values()], "median squared distance", about[1], over)
    bounds = [_interval(rows) for rows in repeats.values()]
    found = {
        "square": variable("repeat image", square, *about),
        "repeat_median": variable("repeat", each_median, "median squared distance", about[1], "median over images"),
        "median": median,
        "median_interval": interval("attack", bounds, median, "bootstrap over images, alike in all repeats"),
    }
    coords = {"repeat": [each.name for each in chosen], "repeat_of": ("repeat", attacks), "attack": list(repeats)}
    return xr.Dataset(found, coords | {"image": np.arange(square.shape[1]), "bound": ["low", "high"]})


def _repeated(condition: Condition, every: Sequence[Condition]) -> str:
    """The name that it shares with its repeats; its own if it has none."""
    base = _base(condition)
    alike = [each for each in every if _base(each) == base and each.perturbation == condition.perturbation]
    return base if len(alike) > 1 else condition.name


def _base(condition: Condition) -> str:
    return re.sub(r"-\d+$", "", condition.name)


def _squares(table: Table, clean: Table, condition: Condition, right: np.ndarray, coordinates: int) -> np.ndarray:
    changed = table["prediction"] != clean["prediction"]
    every = getattr(condition.perturbation, "away_from", "label") == "prediction"
    tried = table.done & clean.done & (every | right)
    return np.where(tried, np.where(changed, table["size_l2"] ** 2 / coordinates, np.inf), np.nan)


def _attacked(rows: np.ndarray) -> np.ndarray:
    """The images that every repeat attacked, (repeat, image)."""
    return rows[:, ~np.isnan(rows).any(0)]


def _median(rows: np.ndarray) -> float:
    rows = _attacked(rows)
    return float(np.median(rows, axis=-1).mean()) if rows.size else np.nan


def _interval(rows: np.ndarray) -> np.ndarray:
    rows = _attacked(rows)
    if not rows.size:
        return np.full(2, np.nan)
    means = resampled_medians(rows).mean(0)
    return np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="inverted_cdf")  # inf has no neighbours
