"""Which images, and which layers, are alike."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xarray as xr

from netprobe import plots
from netprobe.plots.reading import measured
from netprobe.reporting.sections.section import Figure, Numbers, Section, shown_perturbations


def _similarity(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    draw = partial(plots.plot_similarity_matrices, results, models=models)
    yield Figure("Similarity of every two images, in the pixels and at sites", draw)


def _rsa(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    data = measured(results, "rsa", models)[0].data
    for name in shown_perturbations(results, "rsa", models, "condition"):
        draw = partial(plots.plot_rsa, results, condition=name, models=models)
        under = "" if name == "clean" else f", {name}"
        yield Figure(f"Correlation of similarities at each site with {data['other'].values[0]}{under}", draw)
    if "joint" in data:
        draw = partial(plots.plot_similarity_joint, results, models=models)
        yield Figure(f"Pairs of images, similarity at sites against {data['reference'].values[0]}", draw)


def _cka_matrix(results: xr.DataTree, models: list[str]) -> Iterator[Figure]:
    yield Figure("Similarity of every two layers", partial(plots.plot_cka_matrix, results, models=models))


SIMILARITY = Section(
    "similarity",
    "Which images are alike",
    "Every pixel of a panel is a pair of images: orange where the two look alike to the layer, purple where they "
    "are opposite, white where unrelated. All panels have one order of the images, in which neighbours look alike "
    "in the first panel; blocks that persist are groups that the layer keeps, new texture is what it adds. With "
    "centred cosines a mean of about 0 is no finding. The numbers below are "
    "means over pairs; the matrices are in results.nc.",
    _similarity,
    Numbers("mean_similarity", "site", 3),
    ("mean_similarity",),
)

RSA = Section(
    "rsa",
    "Representational similarity analysis",
    "Over all pairs of images: does a layer find the same pairs alike as the pixels do, or as another matrix? 1 is "
    "the same order of pairs, 0 unrelated. Pairs share images, so their number means little: the band is a "
    "bootstrap over images, and the p-value of a reference comes from reordering its images. A small correlation "
    "can be far from chance and still say that the layer has left the pixels behind. Every layer and network is "
    "compared with every other in results.nc.",
    _rsa,
    Numbers("spearman", "site", 3),
    ("pearson", "spearman", "pearson_p", "spearman_p"),
)

CKA_MATRIX = Section(
    "cka_matrix",
    "Similarity of layers",
    "Linear centred kernel alignment of every layer with every other, over the same images: 1 when two agree up "
    "to rotation and scale, about 0 when they share no linear structure. The unbiased estimate stays near 0 for "
    "unrelated layers however few images there are, and may be below it. It is led by the directions of largest "
    "variance, so a few images that stand out can make layers look alike; intervals leave out blocks of images. "
    "All numbers are in results.nc; those below are with the first layer.",
    _cka_matrix,
    Numbers("cka", "site", 3),
    ("cka",),
)
