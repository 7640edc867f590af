"""How near errors are, and what the changes that lead to them are made of."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.plots.reading import conditions, measured, pick
from netprobe.reporting.sections.section import Figure, Numbers, Section, shown_perturbations


def _minimum_norm(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Norms of the smallest perturbations found", partial(plots.plot_minimum_norm, results, models=models))


def _boundary_distance(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    draw = partial(plots.plot_boundary_distance, results, models=models)
    yield Figure("Squared distances to the decision boundary", draw)


def _minimal_spectra(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    data = measured(results, "perturbation_spectrum", models)[0].data
    for name in shown_perturbations(results, "perturbation_spectrum", models):
        options = {"perturbation": name, "models": models}
        under = conditions(pick(data, perturbation=name))[0]
        draw = partial(plots.plot_perturbation_spectrum, results, **options)
        yield Figure(f"Energy of the perturbation by spatial frequency, {under}", draw)
        yield Figure(
            f"Mean spectra of the perturbation, {under}", partial(plots.plot_spectrum_maps, results, **options)
        )


MINIMUM_NORM = Section(
    "minimum_norm",
    "Minimum norms",
    "How large the smallest perturbation is that an attack found, over the images that were right and that it "
    "broke; the percentage is the share that it broke, and a mean over the easy half of the images says little. "
    "It is an upper bound of the true distance, and as weak as the attack.",
    _minimum_norm,
    Numbers("mean", "condition", 4),
    ("mean", "median", "success"),
)

BOUNDARY_DISTANCE = Section(
    "boundary_distance",
    "Distance to the decision boundary",
    "The mean square of the smallest perturbation that was found, ||x′ − x||² / d over the d numbers of an image: "
    "the median over images, and of an attack that was repeated with other noise the mean of the medians. The "
    "interval is a bootstrap over images; small points are single repeats. An image that withstood the attack "
    "counts as farther than all others. Larger is more robust only if the attack came near the boundary: a "
    "decision-based attack of few steps measures where it started, so compare models by it and nothing else, and "
    "run it longer to see whether their order holds.",
    _boundary_distance,
    Numbers("median", "attack", 6),
    ("median", "repeat_median"),
)

PERTURBATION_SPECTRUM = Section(
    "perturbation_spectrum",
    "Spatial frequencies of minimal perturbations",
    "What the nearest errors found are made of. Every image counts alike, however large its perturbation is; "
    "1 is white noise, high at the left means coarse changes, high at the right fine ones. In maps the middle is "
    "the mean of the image and the edges the finest stripes; a difference is orange where a network has to be "
    "attacked with more of that frequency. A decision-based attack starts from white noise: until it has taken "
    "thousands of steps a flat spectrum shows its start and not the network. The table has the power-weighted mean "
    "frequency in cycles per image. None of this says how large perturbations are.",
    _minimal_spectra,
    Numbers("centroid", "perturbation", 2),
    ("centroid", "low_frequency_share", "changed"),
)
