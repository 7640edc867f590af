"""How often networks are right, under what."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.plots.reading import measured, tabled
from netprobe.plots.robustness_curve import swept_bases
from netprobe.reporting.sections.section import Figure, Numbers, Section


def _accuracy(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Accuracy under each condition", partial(plots.plot_accuracy, results, models=models))


def _evaluation(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    options = {"metric": "evaluation", "models": models}
    yield Figure("Accuracy, clean and under each attack or noise", partial(plots.plot_accuracy, results, **options))
    data = measured(results, "evaluation", models)[0].data
    elsewhere = {name.partition("@")[0] for name in tabled(data)}
    for base in [each for each in swept_bases(data) if each not in elsewhere]:
        draw = partial(plots.plot_robustness_curve, results, perturbation=base, models=models)
        yield Figure(f"Accuracy against the strength of {base}", draw)


def _worst_case(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield from ()


ACCURACY = Section(
    "accuracy",
    "Accuracy",
    "Each point is the share of the images that a model classifies correctly; attacks are made anew against "
    "each model. The line through it is the Wilson 95 % interval: it says how far the share may be off "
    "because only so many images were tried, not how much a stronger attack would take away. A weak or "
    "masked attack makes a model look robust, so read the pre-flight findings and the perturbation's "
    "settings (under Provenance) with this plot. Differences between models are best judged from the paired "
    "comparison in the verdict, not from whether two intervals overlap.",
    _accuracy,
    Numbers("accuracy", "condition", 3),
    ("accuracy",),
)

EVALUATION = Section(
    "evaluation",
    "Accuracy under perturbations",
    "Each point is the share of the images that a model classifies correctly on what the attack made of them for "
    "that very model; the line or band is the Wilson 95 % interval, which tells how far the share may be off with "
    "so many images, or, of groups of trainings, the t interval over them. Neither tells how much "
    "a stronger attack would take away: for that read the verdict and the doubts. Under an attack that works, a "
    "curve falls to 0 as eps grows. Differences between models are paired on the same images, in the verdict. "
    "Every image's outcome, loss, margin and cost is in results.nc.",
    _evaluation,
    Numbers("accuracy", "condition", 3),
    ("accuracy", "mean_loss", "images"),
)

WORST_CASE = Section(
    "worst_case",
    "Worst case of all attacks",
    "An image stands at a budget only if the model is right on it clean and on whatever any attack made of it "
    "within that budget, as measured: an attack of a smaller eps counts too, and so does one that looks for the "
    "nearest error. This, not any single attack, is the number to quote, and still only an upper bound of the "
    "robust accuracy. What broke each image is in results.nc.",
    _worst_case,
    Numbers("worst_accuracy", "budget", 3),
    ("worst_accuracy",),
)
