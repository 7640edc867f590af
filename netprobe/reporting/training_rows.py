"""What the verdict says of trainings: how good the best epoch was on held-out images, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator

import xarray as xr

from netprobe.reporting.estimates import Estimate
from netprobe.reporting.rows import Row, every_model, read

HINT = "higher: more images correct"


def training_rows(results: xr.DataTree) -> Iterator[Row]:
    """Accuracy on validation images at the best epoch, clean and under the validation attack; findings."""
    every = every_model(results, "history")
    for name, title in (
        ("validation_accuracy", "Validation accuracy, clean, best epoch"),
        ("validation_robust_accuracy", "Validation accuracy under the defense's attack, best epoch"),
    ):
        having = [entry for entry in every if name in entry.data and "best_epoch" in entry.data.attrs]
        estimates = {e.model: read(e, name, 100, epoch=int(e.data.attrs["best_epoch"])) for e in having}
        if having:
            yield Row(title, HINT, "%", 1, estimates)
    told = [entry for entry in every if "findings" in entry.data.attrs]  # a user's own history may not tell
    if told:
        counts = {e.model: Estimate(float(len(json.loads(e.data.attrs["findings"])))) for e in told}
        yield Row("Findings about the training", "fewer: fewer reasons for doubt", "", 0, counts)
