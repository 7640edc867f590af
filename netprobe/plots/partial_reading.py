"""What the plots of partial training read: the points of a code, its end points, and what failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from netprobe.errors import NetprobeError, unknown
from netprobe.plots.reading import Measured

QUANTITIES = ("adversarial_accuracy", "adversarial_loss", "clean_accuracy", "clean_loss")
ALONG = ("adversarial_layers", "adversarial_parameters", "cutoff")
ADVERSARIAL = "adversarial"


class Points(NamedTuple):
    """A quantity at growing `x` (point,), for every seed.

    `values` (point, seed) are NaN where training failed or was not done, `failed` are NaN everywhere else, and infinite
    where it diverged, so that there is no number.
    """

    x: np.ndarray
    values: np.ndarray
    failed: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Over the seeds that converged, (point,)."""
        return over_seeds(np.mean, self.values)

    @property
    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """The smallest and the largest of the seeds that converged, each (point,)."""
        return over_seeds(np.min, self.values), over_seeds(np.max, self.values)


def over_seeds(reduce: Callable[[np.ndarray], float], values: np.ndarray) -> np.ndarray:
    """`reduce` of each row of `values` (point, seed), NaN left out; NaN where nothing is left."""
    known = [row[np.isfinite(row)] for row in values]
    return np.array([reduce(row) if row.size else np.nan for row in known])


def check_choice(kind: str, value: str, choices: Sequence[str]) -> None:
    """NetprobeError for what is none of the choices."""
    if value not in choices:
        raise unknown(kind, value, choices)


def single(data: xr.Dataset) -> list[str]:
    """The codes that retrain a single layer the other way."""
    return _codes(data, (data["frozen"] == "rest") & (data["stage1"] != data["stage2"]))


def mixed(data: xr.Dataset) -> list[str]:
    """The codes in two parts that are trained differently."""
    return _codes(data, (data["frozen"] != "rest") & (data["stage1"] != data["stage2"]))


def parted(data: xr.Dataset) -> list[str]:
    """The codes in two parts, controls too."""
    return _codes(data, data["frozen"] != "rest")


def _codes(data: xr.Dataset, those: xr.DataArray) -> list[str]:
    return [str(code) for code in data["code"].values[those.values]]


def chosen_codes(
    every: Sequence[Measured], codes: Iterable[str] | None, among: Callable[[xr.Dataset], list[str]], what: str
) -> list[str]:
    """Those of `codes` (None: all) that `among` finds in some model; NetprobeError if there is none, or no such."""
    there = list(dict.fromkeys(code for entry in every for code in among(entry.data)))
    if not there:
        raise NetprobeError(f"this plot shows {what}, of which these results have none: sweep them first")
    wanted = there if codes is None else [codes] if isinstance(codes, str) else list(codes)
    for code in wanted:
        check_choice("code", code, there)
    return wanted


def trained_as(data: xr.Dataset, code: str, part: str) -> str:
    """How the "early" or "late" part of a code is trained."""
    own = data.sel(code=code)
    return str(own["stage1" if str(own["frozen"].values) == part else "stage2"].values)


def position(data: xr.Dataset, code: str, cutoff: int, along: str) -> int:
    """How many early layers, adversarial layers, or adversarial parameters a code in two parts has at a cutoff."""
    if along == "cutoff":
        return cutoff
    sizes = data["layer_parameters"].values
    counted = sizes if along == "adversarial_parameters" else np.ones_like(sizes)
    early, late = (trained_as(data, code, part) == ADVERSARIAL for part in ("early", "late"))
    return int(early * counted[:cutoff].sum() + late * counted[cutoff:].sum())


def by_cutoff(data: xr.Dataset, code: str, quantity: str) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Of a code in two parts: cutoff, values and failed ones (seed,), the whole networks of stage 1 at the ends."""
    own, layers = data.sel(code=code), data.sizes["place"]
    done = [int(c) for c in own["cutoff"].values if (own["converged"].sel(cutoff=c) >= 0).any()]
    rows = [(cutoff, *_told_apart(own.sel(cutoff=cutoff), quantity)) for cutoff in done]
    for cutoff, part in ((0, "late"), (layers, "early")):
        if cutoff not in done:
            whole = data.sel(training=trained_as(data, code, part))
            rows.append((cutoff, *_told_apart(whole, quantity, "whole_")))
    return sorted(rows, key=lambda row: row[0])


def points(data: xr.Dataset, code: str, quantity: str, along: str) -> Points:
    """A code in two parts by growing `along`, one of ALONG."""
    rows = [(position(data, code, cutoff, along), *rest) for cutoff, *rest in by_cutoff(data, code, quantity)]
    x, values, failed = zip(*sorted(rows, key=lambda row: row[0]), strict=True)
    return Points(np.array(x, float), np.array(values), np.array(failed))


def layer_points(data: xr.Dataset, code: str, quantity: str) -> Points:
    """The change that retraining a single layer makes to its own stage 1, at the layers' places in the network."""
    own = data.sel(code=code)
    whole, _ = _told_apart(data.sel(training=str(own["stage1"].values)), quantity, "whole_")
    done = [int(c) for c in own["cutoff"].values if (own["converged"].sel(cutoff=c) >= 0).any()]
    rows = [_told_apart(own.sel(cutoff=cutoff), quantity) for cutoff in done]
    values, failed = (np.reshape([row[k] for row in rows], (len(done), data.sizes["seed"])) for k in (0, 1))
    groundless = np.isfinite(values) & np.isnan(whole)  # stage 1 itself failed
    return Points(np.array(done, float), values - whole, np.where(groundless, np.inf, failed - whole))


def _told_apart(data: xr.Dataset, quantity: str, prefix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Values (seed,) where training converged, and where it failed; NaN elsewhere."""
    values, converged = data[prefix + quantity].values, data[f"{prefix}converged"].values
    lost = np.where(np.isfinite(values), values, np.inf)
    return np.where(converged == 1, values, np.nan), np.where(converged == 0, lost, np.nan)


def layer_names(every: Sequence[Measured]) -> list[str] | None:
    """The names of the layers in their order, if all models share them."""
    names = [list(map(str, entry.data["place_layer"].values)) for entry in every]
    return names[0] if all(own == names[0] for own in names) else None


def named(entry: Measured, code: str, every: Sequence[Measured]) -> str:
    """A code, and whose it is where there are several models."""
    return f"{entry.model}, {code}" if len(every) > 1 and entry.model else code


def whose(every: Sequence[Measured]) -> str:
    """For a heading: the one model that is drawn, if it has a name."""
    return f", {every[0].model}" if len(every) == 1 and every[0].model else ""


def seeds_of(every: Sequence[Measured]) -> str:
    """For a heading: over how many seeds, in words."""
    most = max(entry.data.sizes["seed"] for entry in every)
    return "one seed" if most == 1 else f"mean and range of {most} seeds"
