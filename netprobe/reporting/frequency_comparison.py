"""How two models compare by spatial frequency: what their minimal perturbations are made of, what they withstand."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from netprobe.plots.reading import conditions, pick
from netprobe.reporting.estimates import Estimate

CUTOFF = 4


def frequencies(results: xr.DataTree, one: str, other: str) -> Iterator[str]:
    """Sentences for what `netprobe.fourier.comparison` gives of `other` relative to `one`."""
    yield from _differences(_relative(results, "spectrum_difference", one, other), one, other)
    yield from _gains(_relative(results, "frequency_gains", one, other), one, other)


def _relative(results: xr.DataTree, metric: str, one: str, other: str) -> xr.Dataset | None:
    node = results[other].children.get(metric)
    return None if node is None or node.attrs.get("baseline") != one else node.to_dataset()


def _differences(data: xr.Dataset | None, one: str, other: str) -> Iterator[str]:
    for each in conditions(data) if data is not None else []:
        chosen = pick(data, perturbation=each.name).sel(cutoff=CUTOFF)
        share = _estimate(chosen, "low_frequency_share")
        zero = "includes" if share.low <= 0 <= share.high else "excludes"
        yield (
            f"Of what {each} changes, the share of energy at {CUTOFF} cycles per image and below is that of {one} plus "
            f"{share.write(1, 'points')} in {other}, over {int(chosen['images'])} images; the interval {zero} zero."
        )


def _gains(data: xr.Dataset | None, one: str, other: str) -> Iterator[str]:
    if data is not None:
        gains = (f"{_estimate(data.sel(group=g), 'group_gain').write(1)} ({g})" for g in data["group"].values)
        yield f"Under corruptions by frequency {other} gains over {one}, in points of accuracy: {', '.join(gains)}."


def _estimate(data: xr.Dataset, name: str) -> Estimate:
    """A share in percent."""
    return Estimate(*(100 * float(value) for value in (data[name], *data[f"{name}_interval"])))
