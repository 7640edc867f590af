"""Budgets of perturbations in input units, and behind a division of every input by its L_p norm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from netprobe.data import Data
from netprobe.errors import NetprobeError, unknown
from netprobe.metrics.base import variable

UNITS = ("input", "scaled")
BETWEEN = (0.05, 0.95)


def scaled_eps(data: Data, eps: float | Sequence[float], *, p: float = 3.0, given: str = "input") -> xr.Dataset:
    """What a budget `eps` on inputs is behind a division by their L_p norms, or the other way round.

        scaled = eps / ||x||_p        input = eps ||x||_p        one for every x of `data`

    A difference d of inputs is d / ||x||_p behind `LpScale`, to first order and but for the change of ||x||_p itself.

    Parameters
    ----------
    eps : one or several, in units of [0, 1] (or of -1 to 1, waveforms), or scaled if `given` says so.

    Returns a Dataset over `eps`, means over the samples and, over `bound`, the range that holds 90 % of them:
        input(eps), input_range(eps, bound)     in units of inputs; times 255 that are grey levels
        scaled(eps), scaled_range(eps, bound)   in units of samples of norm 1
    The one that was given is as it was given. Attributes: p, given, and mean_norm, the mean of ||x||_p.
    """
    if given not in UNITS:
        raise unknown("unit of eps", given, UNITS)
    budgets, norms = np.atleast_1d(np.asarray(eps, float)), _norms(data, p)
    factors = 1 / norms if given == "input" else norms
    other = UNITS[1 - UNITS.index(given)]
    means = {given: budgets, other: budgets * factors.mean()}
    ends = {given: np.stack([budgets] * 2, 1), other: np.outer(budgets, np.quantile(factors, BETWEEN))}
    found = {}
    for unit, what in (("input", "eps of inputs"), ("scaled", "eps of samples of unit norm")):
        found[unit] = variable("eps", means[unit], what, "1", f"mean over samples, told by ||x||_{p:g}")
        found[f"{unit}_range"] = variable("eps bound", ends[unit], f"range of {what}", "1", "5 % to 95 % of samples")
    attrs = {"title": "budgets", "p": p, "given": given, "mean_norm": float(norms.mean())}
    return xr.Dataset(found, {"eps": budgets, "bound": ["low", "high"]}, attrs)


def _norms(data: Data, p: float) -> np.ndarray:
    """||x||_p of every sample."""
    if not p >= 1:
        raise NetprobeError(f"p={p} is no norm's: choose 1 or more, such as 3")
    parts = [torch.linalg.vector_norm(b.x.flatten(1).double(), p, dim=1) for b in data.batches(1024)]
    norms = torch.cat(parts).numpy()
    if not norms.all():
        raise NetprobeError(f"{int((norms == 0).sum())} sample(s) of {data.name} are zero throughout: leave them out")
    return norms
