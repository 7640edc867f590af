"""Losses, Jacobians, distances and spectra around images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.reporting.sections.section import Figure, Numbers, Section


def _landscape(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Loss around the images", partial(plots.plot_loss_landscape, results, models=models))


def _jacobian(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    for quantity in ("frobenius", "operator"):
        draw = partial(plots.plot_jacobian_norms, results, quantity=quantity, models=models)
        yield Figure(f"Norm of the Jacobian at each site, {quantity}", draw)


def _distances(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Accuracy along each walk", partial(plots.plot_relative_accuracy, results, models=models))
    yield Figure("Distances to the first error", partial(plots.plot_critical_distances, results, models=models))
    yield Figure("Accuracy against distance", partial(plots.plot_distance_scatter, results, models=models))


def _units(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Spectra under images and noise", partial(plots.plot_unit_spectra, results, models=models))


def _plane(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("A plane through an image", partial(plots.plot_decision_plane, results, models=models))


LANDSCAPE = Section(
    "landscape",
    "Loss landscape",
    "The loss on a plane through the images: upwards along the sign of the gradient, to the right along random "
    "signs. Where gradients can be trusted the loss rises smoothly upwards and hardly changes sideways. A plane "
    "that is flat or rough upwards and high elsewhere is a sign of masked gradients, but a few planes prove "
    "nothing. The table has the rise of the loss from the image to the upper edge.",
    _landscape,
    Numbers("rise", "image", 2),
    ("rise", "rise_random"),
)

JACOBIAN = Section(
    "jacobian",
    "Norms of Jacobians",
    "How far the activations of a site move with the input, averaged over images: the Frobenius norm over all "
    "directions together, the operator norm along the one that moves them most. Small norms of the logits mean "
    "that small perturbations change little, if the logits of the networks are of one scale: a network twice as "
    "sure has twice the norm. Norms of inner sites depend on scales that later layers undo. Local, at the images: "
    "they bound nothing. Where a norm was estimated, the CSV file says so. Bands are bootstrap 95 % intervals.",
    _jacobian,
    Numbers("mean_frobenius", "site", 3),
    ("mean_frobenius", "mean_operator", "frobenius_method", "operator_method", "note"),
)

DISTANCES = Section(
    "distances",
    "Critical distances",
    "From every image that is right, the strength of a perturbation is raised step by step until the network errs. "
    "Curves are the share still right, of those right when clean; the legend has the clean accuracy, which they "
    "hide. Boxes go from quartile to quartile of the distances, a dash marks the median. Images that were never "
    "fooled (the percentage above a box) count as farther than all others, and the interval of the median respects "
    "that (Kaplan and Meier). Distances along attacks are upper bounds, as good as the attack: a stronger one may "
    "find nearer errors, so judge robustness by netprobe evaluate. Along random directions errors are farther.",
    _distances,
    Numbers("median", "walk", 3),
    ("median", "median_eps", "clean_accuracy"),
)

UNITS = Section(
    "units",
    "Spectra under images and noise",
    "Eigenvalues of the covariance of a layer's units, of the first so many in paler lines, under images and under "
    "white noise of the same shape. Much of what images show is inherited from them: compare with the input's own "
    "spectrum and with an untrained network. Noise shows the layer alone. Finite samples make every spectrum too "
    "steep, the more the fewer images there are for each unit, and the interval of the regression knows nothing of "
    "it: an exponent with a ~ is such a one. With --correction the bias is taken out, on the assumption that the "
    "power law goes on over all units, and the interval in brackets holds.",
    _units,
    Numbers("alpha", "site", 2),
    ("alpha", "alpha_jackknife", "alpha_corrected", "fit_first", "fit_last", "rank_numeric", "note"),
)

PLANE = Section(
    "plane",
    "A plane through an image",
    "What the network says at points of a plane through one image (the cross), far beyond anything that is an "
    "image: colours are classes, pale where it is unsure, lines are of equal confidence. Above, the norm of the "
    "Jacobian, each network on a scale of its own, in its title. One plane of one image is a picture, no measure.",
    _plane,
    Numbers("mean_frobenius", "axis", 2),
    ("mean_frobenius",),
)
