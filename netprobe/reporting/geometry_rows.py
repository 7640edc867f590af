"""The rows of the verdict that tell how far errors are and how fast the logits move."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

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
