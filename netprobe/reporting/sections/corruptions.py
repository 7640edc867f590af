"""Common corruptions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.plots.reading import models_with
from netprobe.reporting.sections.section import Figure, Numbers, Section


def _corruptions(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    caption = "Accuracy under each corruption and severity"
    yield Figure(caption, partial(plots.plot_corruption_table, results, models=models))
    if results[models[0]]["corruptions"].sizes["severity"] > 1:
        draw = partial(plots.plot_severity_curve, results, models=models)
        yield Figure("Accuracy against severity, mean over corruptions", draw)
        yield Figure("Accuracy at one severity", partial(plots.plot_corruption_accuracy, results, models=models))
    if gaining := models_with(results, "frequency_gains"):
        draw = partial(plots.plot_frequency_gains, results, models=gaining)
        yield Figure("Accuracy gained by the frequencies that a corruption changes", draw)
    options = {"models": models} | ({"baseline": models[0]} if len(models) > 1 else {})
    against = f", relative to {models[0]}" if len(models) > 1 else ""
    yield Figure(f"Corruption error{against}", partial(plots.plot_corruption_error, results, **options))


CORRUPTIONS = Section(
    "corruptions",
    "Common corruptions",
    "Accuracy under the corruptions of ImageNet-C and CIFAR-10-C, made afresh for these images. Nobody looks for "
    "the worst here, so it says nothing about attacks. Relative to a baseline, 100 % is the baseline's own error, "
    "corruption by corruption, and the mean of these ratios is the mean corruption error (mCE).",
    _corruptions,
    Numbers("error", "corruption", 3),
    ("error", "mean_error", "mean_accuracy", "group_accuracy"),
)
