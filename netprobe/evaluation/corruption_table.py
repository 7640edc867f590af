"""Accuracy under common corruptions as a table: which corruption, how severe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from netprobe.evaluation.conditions import Condition
from netprobe.evaluation.datasets import correct_of
from netprobe.evaluation.running import Table
from netprobe.fourier.comparison import GROUPS, frequency_groups
from netprobe.metrics.base import interval, variable
from netprobe.uncertainty import bootstrap_interval, wilson_intervals


def corruption_table(
    tables: Mapping[str, Table], conditions: Sequence[Condition], label: np.ndarray
) -> xr.Dataset | None:
    """/<model>/corruptions: accuracy(corruption, severity), and error(corruption), 1 minus its mean over severities.

    `mean_accuracy` (severity) is the mean of `accuracy` over corruptions, for curves.

    `error_image` (corruption, image) is what `error` is the mean of, so that models can be compared image by image.

    `centroid` (corruption), where spectra were asked for, is the spectral centroid of what it changes, in cycles per
    image, mean over images and severities; `frequency_group` its third, and `group_accuracy` (group) the mean accuracy
    over severities and the corruptions of the group.

    `mean_error` is the mean of `error` over corruptions; divided corruption by corruption by the error of a baseline
    model before the mean it is the mean corruption error (mCE) of Hendrycks and Dietterich (ICLR 2019), which
    `plot_corruption_error(baseline=...)` shows. NaN where a severity was not evaluated. None without corruptions.
    """
    chosen = [each for each in conditions if each.role == "corruption" and each.eps > 0]
    if not chosen:
        return None
    names, severities = list(dict.fromkeys(c.family for c in chosen)), sorted({int(c.eps) for c in chosen})
    outcome = np.full((len(names), len(severities), len(label)), -1, dtype=np.int8)
    for each in chosen:
        outcome[names.index(each.family), severities.index(int(each.eps))] = correct_of(tables[each.name], label)
    known, right = (outcome >= 0).sum(-1), (outcome == 1).sum(-1)
    wrong = np.where(outcome >= 0, 1.0 - outcome, np.nan).mean(1)  # (corruption, image), over severities
    both = "corruption severity"
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = variable(both, right / known, "accuracy", "1", "share of images classified as labelled")
    right_image = np.where((outcome >= 0).all(0), (outcome == 1).mean(0), np.nan)  # (severity, image), over corruptions
    average = variable("severity", right_image.mean(-1), "mean accuracy", "1", "mean of the accuracy over corruptions")
    error = variable("corruption", wrong.mean(-1), "error", "1", "1 minus accuracy, mean over severities")
    mean = variable("", wrong.mean(), "mean error", "1", "mean of the error over corruptions")
    images = "bootstrap over images"
    found = {
        "accuracy": accuracy,
        "accuracy_interval": interval(both, wilson_intervals(right, known), accuracy, "Wilson score interval"),
        "mean_accuracy": average,
        "mean_accuracy_interval": interval("severity", bootstrap_interval(right_image), average, images),
        "error_image": variable("corruption image", wrong, "error", "1", "share of severities at which it is wrong"),
        "error": error,
        "error_interval": interval("corruption", bootstrap_interval(wrong), error, images),
        "mean_error": mean,
        "mean_error_interval": interval("", bootstrap_interval(wrong.mean(0)), mean, images),
    }
    found |= _by_frequency({each.name: tables[each.name] for each in chosen}, chosen, names, 1 - wrong)
    coords = {"corruption": names, "severity": severities, "image": np.arange(len(label)), "bound": ["low", "high"]}
    return xr.Dataset(found, coords | ({"group": list(GROUPS)} if "centroid" in found else {}))


def _by_frequency(
    tables: Mapping[str, Table], chosen: Sequence[Condition], names: Sequence[str], right: np.ndarray
) -> dict[str, xr.Variable]:
    """What spectra add; nothing without. `right` (corruption, image) is the share of severities that it is right at."""
    spectra = {name: tables[name].spectrum for name in tables}
    if any(spectrum is None for spectrum in spectra.values()):
        return {}
    each = {name: float(spectrum.results()["centroid"]) for name, spectrum in spectra.items()}
    centroid = np.array([np.mean([each[c.name] for c in chosen if c.family == name]) for name in names])
    group = frequency_groups(centroid)
    grouped = np.stack([right[group == one].mean(0) if (group == one).any() else right[0] * np.nan for one in GROUPS])
    about = "mean accuracy over severities and the corruptions of low, medium and high frequency"
    accuracy = variable("group", grouped.mean(-1), "accuracy by frequency", "1", about)
    radius = "power-weighted radius of the frequencies of what it changes, mean over images and severities"
    return {
        "centroid": variable("corruption", centroid, "spectral centroid", "cycles per image", radius),
        "frequency_group": variable(
            "corruption", group, "group of frequencies", "", "third of the corruptions by centroid"
        ),
        "group_accuracy": accuracy,
        "group_accuracy_interval": interval("group", bootstrap_interval(grouped), accuracy, "bootstrap over images"),
    }
