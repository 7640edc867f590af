"""Accuracy against the strength of a perturbation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, PercentFormatter

from netprobe.errors import NetprobeError
from netprobe.plots.drawing import canvas, curve, heading, styled
from netprobe.plots.reading import budget, conditions, label, measured, pick, select, sweep


@styled
def plot_robustness_curve(
    results: xr.DataTree | xr.Dataset,
    *,
    perturbation: str | None = None,
    models: Iterable[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Accuracy against eps, σ or severity, from the clean images at 0, with Wilson 95 % intervals as bands.

    An attack that works brings every curve down to 0: one that levels off above it says that the attack fails there.

    Parameters
    ----------
    results : what `npb.evaluate` returns, or the Dataset "evaluation" of one model
    perturbation : a member of the sweep, such as "pgd@2/255", or its name before the "@"; None takes the first sweep
    models, ax : as for `plot_psr`

    Returns the Axes.
    """
    every = measured(results, "evaluation", models)
    names = _members(every[0].data, perturbation)
    chosen = select(every, condition=names)
    at = [each.eps for each in conditions(chosen[0].data, "condition")]
    ax = canvas(ax)
    handles = [curve(ax, np.array(at), entry, "accuracy") for entry in chosen]
    role = str(pick(every[0].data, condition=names[-1])["role"].values) if "role" in every[0].data.coords else "attack"
    last = conditions(pick(every[0].data, condition=names[-1]), "condition")[0]
    ax.set(
        ylim=(0, 1.02),
        xlabel="Severity" if role == "corruption" else last.axis(),
        ylabel=label(every[0].data["accuracy"]),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.xaxis.set_major_locator(FixedLocator(_apart(at)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _spelled(value, at)))
    heading(ax, f"Accuracy under {last.base}", handles)
    return ax


def _apart(strengths: list[float]) -> list[float]:
    """The least and the largest, and of the others those whose labels do not run into one another on the narrowest
    page: a sixth of the axis apart.
    """
    reach, least = 0.16 * max(strengths), min(strengths)
    kept: list[float] = []
    for strength in sorted(strengths, reverse=True):
        if not kept or strength == least or (kept[-1] - strength >= reach and strength - least >= reach):
            kept.append(strength)
    return kept


def _spelled(value: float, at: list[float]) -> str:
    """As all strengths can be written: grey levels, 8/255, where each is a whole number of them."""
    levels = all(abs(255 * each - round(255 * each)) < 1e-3 for each in at)
    return budget(value) if 0 < value < 1 and levels else f"{value:.3g}"


def swept_bases(data: xr.Dataset) -> list[str]:
    """The names before the "@" of the sweeps in `data`, in their order."""
    bases = dict.fromkeys(each.base for each in conditions(data, "condition") if each.name != "clean")
    return [base for base in bases if len(sweep(data, dim="condition", base=base)) > 1]


def _members(data: xr.Dataset, perturbation: str | None) -> list[str]:
    """The conditions to draw by growing strength, from the clean images, which stand for strength 0."""
    there = swept_bases(data)
    if not there:
        raise NetprobeError("nothing was evaluated at several strengths: sweep one, e.g. npb.sweep(attack, eps=[...])")
    base = there[0] if perturbation is None else perturbation.partition("@")[0]
    members = sweep(data, dim="condition", base=base)
    if not members:
        raise NetprobeError(f"{base!r} was not evaluated at several strengths; these were: {', '.join(there)}")
    at_zero = _strength(data, members[0]) == 0
    return members if at_zero or "clean" not in data["condition"].values else ["clean", *members]


def _strength(data: xr.Dataset, name: str) -> float:
    return conditions(pick(data, condition=name), "condition")[0].eps
