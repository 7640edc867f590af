"""Representational similarity analysis: how alike two similarity matrices are."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from netprobe.errors import NetprobeError
from netprobe.metrics.base import variable
from netprobe.representations.correlating import (
    METHODS,
    ROUND_OFF,
    Pairs,
    off_diagonal,
    permuted,
    resampled,
    standardised,
)
from netprobe.representations.given import check_images, check_symmetric
from netprobe.representations.listing import Estimate, Name, datasets, models_with, names_of
from netprobe.representations.pairs import pair_count
from netprobe.uncertainty import LEVEL

GROUP, SIMILARITY = "rsa", "similarity"
PIXELS, PIXEL_SIMILARITY = "pixels", "pixel_similarity"
FEWEST = 4
"""Images, for correlations over six pairs."""
BINS = 60
"""Of each side of the joint histogram."""


def rsa(
    similarities: xr.DataTree,
    references: Mapping[str, Any] | None = None,
    *,
    among: bool = True,
    resamples: int = 200,
    permutations: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> xr.DataTree:
    """Correlations between similarity matrices, over the pairs of images i < j.

    Parameters
    ----------
    similarities : what `npb.similarity_matrices` returns (or `npb.probe` with the metric "similarity")
    references : matrices (image, image) of the same images from elsewhere, by name, such as neural similarities. The
        pixel similarity that comes with `similarities` is one already, "pixels"
    among : whether also to compare every site, model and condition with every other
    resamples : bootstrap resamples of the images for the intervals; 0 for none
    permutations : of the images of the references for the p-values; 0 for none
    seed : of resamples and permutations

    Returns
    -------
    DataTree /model/rsa: pearson and spearman (condition, site, other) in [-1, 1] with 95 % percentile intervals over
    resamples of images, in which pairs of an image with itself are left out; `other` runs through the references, then
    all representations (see `other_model`, `other_condition`, `other_site`). pearson_p and spearman_p, two-sided, of
    the references: the share of orders of the images with a correlation as far from 0 (Mantel's test), the observed
    one counted, so never below 1/(permutations + 1); NaN for representations, which all see the same images. `joint`
    (condition, site, reference, level, reference_level), counts of pairs over equal bins from the smallest to the
    largest value, whose centres are `level_value` and `reference_level_value`. NaN with a matrix that does not vary or
    has an undefined pair. Distances and similarities correlate negatively.

    Notes
    -----
    Cost: resamples x representations^2 x pairs multiply-adds, and as many rankings as representations in a resample.

    References
    ----------
    Kriegeskorte et al. 2008; Nili et al. 2014. The ranks of a resample are made anew.

    >>> import netprobe as npb
    >>> net, digits = npb.load("digits_cnn"), npb.data.load("digits", limit=20)
    >>> matrices = npb.similarity_matrices({"net": net}, digits, sites="conv1,conv5", progress=False)
    >>> tree = npb.rsa(matrices, resamples=20, permutations=20, progress=False)
    >>> tree["net/rsa/spearman"].sel(condition="clean", site="conv5").other.values.tolist()
    ['pixels', 'net/clean/conv1', 'net/clean/conv5']
    """
    rows, matrices = names_of(similarities, SIMILARITY), _matrices(similarities)
    images = matrices.shape[-1]
    given = _references(similarities, references or {}, images)
    if not given and not among:
        raise NetprobeError("nothing to compare with: give references=, or leave among=True")
    pairs = Pairs(off_diagonal(np.concatenate([*(m[None] for m in given.values()), matrices])), images)
    others = [*map(Name, given), *(rows if among else [])]
    steps = len(METHODS) * (resamples + permutations * bool(given))
    with tqdm(desc="resamples, permutations", total=steps, disable=not progress, leave=False) as bar:
        run = _Run(pairs, len(given), len(others), resamples, permutations, seed, bar.update)
        estimates = {name: each for method in METHODS for name, each in run.estimates(method).items()}
    found = datasets(similarities, SIMILARITY, others, estimates)
    for model, data in found.items():
        found[model] = data.merge(_joint(similarities[model][SIMILARITY].to_dataset(), given))
    return xr.DataTree.from_dict({f"/{model}/{GROUP}": data for model, data in found.items()})


@dataclass(frozen=True)
class _Run:
    """The matrices `pairs`, of which the first `given` are references and the first `others` are compared with."""

    pairs: Pairs
    given: int
    others: int
    resamples: int
    permutations: int
    seed: int
    tick: Callable[[], object]

    def estimates(self, method: str) -> dict[str, Estimate]:
        """The correlations of the representations and their p-values, by the names of their variables."""
        values = self.pairs.correlations(method, self.others)[self.given :]
        name = "Pearson's correlation" if method == "pearson" else "Spearman's rank correlation"
        about = (name, "1", "of the similarities of the pairs of images i < j")
        how = f"percentiles of {self.resamples} bootstraps over images, without pairs of an image with itself"
        tested = (f"p-value of {name}", "1", f"share of {self.permutations} orders of the images as far from 0")
        return {
            method: Estimate(values, self._bounds(method, values), about, how),
            f"{method}_p": Estimate(self._p_values(method, values), None, tested),
        }

    def _bounds(self, method: str, values: np.ndarray) -> np.ndarray:
        drawn = []
        for weights in resampled(self.pairs.images, self.resamples, self.seed):
            drawn.append(self.pairs.correlations(method, self.others, weights)[self.given :])
            self.tick()
        if not drawn:
            return np.full((*values.shape, 2), np.nan)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN slice")  # of matrices without a correlation
            bounds = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        return np.moveaxis(bounds, 0, -1)

    def _p_values(self, method: str, values: np.ndarray) -> np.ndarray:
        """A permutation of images moves pairs about, so that scores stay standardised."""
        p = np.full(values.shape, np.nan)
        if not self.given or not self.permutations:
            return p
        scores = standardised(self.pairs.scores(method), np.ones(pair_count(self.pairs.images)))
        observed = np.abs(values[:, : self.given])
        reached = np.ones_like(observed)
        for references in permuted(scores[: self.given], self.pairs.images, self.permutations, self.seed):
            reached += np.abs(scores[self.given :] @ references.T) >= observed - ROUND_OFF
            self.tick()
        p[:, : self.given] = np.where(np.isfinite(observed), reached / (self.permutations + 1), np.nan)
        return p


def _matrices(similarities: xr.DataTree) -> np.ndarray:
    """(representation, image, other_image), in the order of `names_of`."""
    models = models_with(similarities, SIMILARITY)
    if not models:
        raise NetprobeError("there are no similarity matrices: give what npb.similarity_matrices returns")
    first = similarities[models[0]][SIMILARITY]["image"].values
    for model in models[1:]:
        if not np.array_equal(similarities[model][SIMILARITY]["image"].values, first):
            raise NetprobeError(f"{model!r} saw other images than {models[0]!r}: compare matrices of the same images")
    if len(first) < FEWEST:
        raise NetprobeError(f"RSA needs {FEWEST} images or more; these are {len(first)}")
    shape = (-1, len(first), len(first))
    return np.concatenate([similarities[m][SIMILARITY]["similarity"].values.reshape(shape) for m in models])


def _references(similarities: xr.DataTree, given: Mapping[str, Any], images: int) -> dict[str, np.ndarray]:
    """Matrices from elsewhere, the pixels' first."""
    known = similarities[models_with(similarities, SIMILARITY)[0]][SIMILARITY]
    found = {PIXELS: known[PIXEL_SIMILARITY].values} if PIXEL_SIMILARITY in known else {}
    for name, matrix in given.items():
        found[name] = np.asarray(matrix, dtype=np.float64)
        check_images(found[name], images, f"the reference {name!r}", "the images compared")
        check_symmetric(found[name], f"the reference {name!r}")
    return found


def _joint(data: xr.Dataset, given: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Histograms of the pairs of every matrix with every reference."""
    if not given:
        return xr.Dataset()
    shape = (data.sizes["condition"], data.sizes["site"])
    rows = off_diagonal(data["similarity"].values).reshape(np.prod(shape), -1)
    columns = off_diagonal(np.array(list(given.values())))
    edges, reference_edges = _edges(rows), _edges(columns)
    counts = [
        [np.histogram2d(row, column, (e, f))[0] for column, f in zip(columns, reference_edges, strict=True)]
        for row, e in zip(rows, edges, strict=True)
    ]
    like = data["similarity"].attrs
    return xr.Dataset(
        {
            "joint": variable(
                "condition site reference level reference_level",
                np.reshape(counts, (*shape, len(given), BINS, BINS)).astype(np.int64),
                "pairs of images",
                "pairs",
                "pairs i < j whose two similarities lie in these bins",
            ),
            "level_value": variable(
                "condition site level", _middles(edges).reshape(*shape, BINS), like["long_name"], like["units"], "bins"
            ),
            "reference_level_value": variable(
                "reference reference_level", _middles(reference_edges), "similarity of the reference", "1", "bins"
            ),
        },
        {"reference": list(given)},
    )


def _edges(rows: np.ndarray) -> np.ndarray:
    """Equal bins over what is finite of each row, (row, edge); 0 to 1 where nothing is."""
    finite = np.isfinite(rows)
    low = np.where(finite, rows, np.inf).min(1)
    high = np.where(finite, rows, -np.inf).max(1)
    low, high = np.where(finite.any(1), low, 0.0), np.where(finite.any(1), high, 1.0)
    return np.linspace(low, np.where(high > low, high, low + 1e-6), BINS + 1, axis=-1)


def _middles(edges: np.ndarray) -> np.ndarray:
    return (edges[:, 1:] + edges[:, :-1]) / 2
