"""The rows of the verdict that tell how far errors are and how fast the logits move."""

from __future__ import annotations

import json
from collections.abc import Iterator

import xarray as xr

from netprobe.geometry.comparing import compare_distances
from netprobe.plots.reading import measured, models_with
from netprobe.reporting.estimates import Estimate
from netprobe.reporting.rows import Row, every_model, read


def geometry_rows(results: xr.DataTree) -> Iterator[Row]:
    """Clean accuracy and median critical distance along every walk; the norm of the last Jacobian."""
    every = every_model(results, "distances")
    if every:
        clean = {entry.model: read(entry, "clean_accuracy", 100) for entry in every}
        yield Row("Clean accuracy, images that were walked from", "higher: more images right", "%", 1, clean)
    for walk in map(str, every[0].data["walk"].values) if every else ():
        own = [entry for entry in every if walk in entry.data["walk"].values]
        medians = {entry.model: read(entry, "median", walk=walk) for entry in own}
        yield Row(f"Median critical distance, {walk}, L2", "larger: errors are farther away", "", 3, medians)
    for entry in every_model(results, "jacobian")[:1]:
        site = str(entry.data["site"].values[-1])
        norms = {
            each.model: read(each, "mean_frobenius", site=site)
            for each in every_model(results, "jacobian")
            if site in each.data["site"].values
        }
        yield Row(f"Mean norm of the Jacobian at {site}", "smaller: smoother, on one scale of logits", "", 3, norms)


def distance_trust(results: xr.DataTree) -> dict[str, str]:
    """The sentence of every model whose distances are doubted."""
    found = {}
    for entry in every_model(results, "distances"):
        doubts = json.loads(entry.data.attrs.get("doubts", "[]"))
        if doubts:
            found[entry.model] = f"do not trust the distances of attacks: {'; '.join(doubts)}"
    return found


def distance_comparison(results: xr.DataTree, one: str, other: str) -> Iterator[str]:
    """On how many of the same images `other` is farther from its first error, along every walk that both took."""
    if {one, other} - set(models_with(results, "distances")):
        return
    first, second = (entry.data for entry in measured(results, "distances", [one, other]))
    shared = [walk for walk in first["walk"].values if walk in second["walk"].values]
    if not shared or first.sizes["image"] != second.sizes["image"]:
        return
    found = compare_distances(second.sel(walk=shared), first.sel(walk=shared))
    for walk in shared:
        here = found.sel(walk=walk)
        share = Estimate(*(100 * float(value) for value in (here["farther"], *here["farther_interval"].values)))
        ratio = Estimate(*map(float, (here["ratio"], *here["ratio_interval"].values)))
        yield (
            f"Along {walk}: of the {int(here['images'])} images that both get right {other} is farther from its first "
            f"error on {share.write(1, '%')} of those whose order is known (sign test, p = "
            f"{float(here['p_value']):.2g}); its median distance is {ratio.write(2)} times that of {one}."
        )
