"""Linear CKA between any two representations of the same images: layers, networks, clean and perturbed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.errors import NetprobeError, unknown
from netprobe.probing.kernels import leave_out
from netprobe.probing.partial import Partial
from netprobe.probing.probe import gather, named_models
from netprobe.representations.batch_grams import BatchGrams, Kernels
from netprobe.representations.grams import ROUND_OFF, Grams
from netprobe.representations.listing import Estimate, datasets, names_of
from netprobe.representations.room import require_room
from netprobe.uncertainty import BLOCKS, jackknife_interval

GROUP = "cka_matrix"
ESTIMATORS = ("unbiased", "biased")
FEWEST = 4
"""Images that the unbiased estimator needs."""


def cka_matrix(
    models: nn.Module | Mapping[str, nn.Module],
    data: Data | Any,
    perturbations: Any = None,
    sites: Any = None,
    *,
    estimator: str = "unbiased",
    minibatch: int | None = None,
    **settings: Any,
) -> xr.DataTree:
    """Linear centred kernel alignment of every site of every model, clean and perturbed, with every other one.

        CKA(X, Y) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)),   K = X X^T, L = Y Y^T  (image, image)

        unbiased   HSIC_1(K, L) = [tr(K L) + 1'K1 1'L1 / ((n - 1) (n - 2)) - 2 1'K L1 / (n - 2)] / (n (n - 3)), K and L
                   with zero diagonals (Song et al. 2012): 0 on average for independent features, however few images
        biased     tr(K H L H), H = I - 1/n (Kornblith et al. 2019): above 0 by chance, the more so the fewer images

    Parameters
    ----------
    models, data, perturbations, sites : as for `netprobe.probe`; no perturbations: clean images alone
    estimator : "unbiased" or "biased"
    minibatch : None: exact, from the Gram matrices of all images, 16 N^2 bytes a representation. A number: HSIC_1
        averaged over random batches of so many images before the ratio (Nguyen et al. 2021), 8 N minibatch bytes
    settings : other fields of `ProbeSettings`

    Returns
    -------
    DataTree /model/cka_matrix: cka (condition, site, other) in [-1, 1] (biased: [0, 1]) and its interval, a jackknife
    over blocks of images (over minibatches); `other` runs through all representations. 1 means the same geometry up to
    rotation and one scale; NaN for a layer that is constant over images. Also /model/accuracy. Identical
    representations have 1 at any batch size. There is no bootstrap: images drawn twice are alike in both kernels, which
    raises CKA.

    Notes
    -----
    The models are left as found. `batch_size` changes nothing but the rounding of the models.

    >>> import numpy as np
    >>> import netprobe as npb
    >>> net, digits = npb.load("digits_cnn"), npb.data.load("digits", limit=20)
    >>> tree = npb.cka_matrix({"net": net}, digits, sites="conv", progress=False)
    >>> np.diag(tree["net/cka_matrix/cka"].sel(condition="clean")).round(3)
    array([1., 1., 1., 1., 1.])
    """
    data = data if isinstance(data, Data) else load_data(data)
    check_cka(estimator, minibatch, len(data))
    named, kernels = named_models(models), Kernels(whole=minibatch is None)
    if minibatch is None:
        require_room(named, data, perturbations, sites, settings, copies=2)
    else:
        data, settings = _shuffled(data, minibatch, settings.get("seed", 0)), settings | {"batch_size": minibatch}
    partial = gather(named, data, perturbations, kernels, sites, **settings)
    tree = partial.compute()
    found = alignments(partial, tree, kernels.name, estimator)
    for model, rows in found.items():
        del tree[model][kernels.name]
        tree[f"{model}/{GROUP}"] = xr.DataTree(rows)
    return tree


def alignments(partial: Partial, tree: xr.DataTree, group: str, estimator: str = "unbiased") -> dict[str, xr.Dataset]:
    """The Dataset "cka_matrix" of every model, from what `partial` kept of the sites in the Datasets `group`."""
    kept = [site for part in partial.models.values() for site in _kept(part, group)]
    rows = [(site, c) for model in _by_model(partial, group) for c in range(len(partial.conditions)) for site in model]
    whole = isinstance(kept[0], Grams)
    products, left_out = (_whole if whole else _batched)(rows, estimator)
    least = [(ROUND_OFF * _square(*row)) ** 2 / (1 if whole else len(kept[0].kernels)) for row in rows]
    values = normalised(products, np.array(least))
    bounds = jackknife_interval(values, np.array([normalised(p, np.array(least)) for p in left_out]))
    what = f"{BLOCKS} blocks of images" if whole else "minibatches"
    about = (
        "linear CKA",
        "1",
        f"{estimator} HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)){'' if whole else ', minibatches'}",
    )
    low = -1 if estimator == "unbiased" else 0
    estimate = Estimate(values, bounds.clip(low, 1), about, f"{what} left out in turn, cut to [{low}, 1]")
    return datasets(tree, group, names_of(tree, group), {"cka": estimate})


def centred(kernels: np.ndarray, estimator: str) -> np.ndarray:
    """Kernels (..., n, n) whose Frobenius products are HSIC up to one factor of n.

    biased    H K H
    unbiased  off the diagonal K_ij - r_i/(n - 2) - r_j/(n - 2) + s/((n - 1) (n - 2)) with r the sums of rows and s that
              of all entries but the diagonal, 0 on it: <K, L> = n (n - 3) HSIC_1 (Szekely and Rizzo 2014)
    """
    n = kernels.shape[-1]
    if estimator == "biased":
        rows = kernels.mean(-1)
        return kernels - rows[..., None] - rows[..., None, :] + rows.mean(-1)[..., None, None]
    diagonal = np.arange(n)
    rows = (kernels.sum(-1) - kernels[..., diagonal, diagonal]) / (n - 2)
    out = kernels - rows[..., None] - rows[..., None, :] + (rows.sum(-1) / (n - 1))[..., None, None]
    out[..., diagonal, diagonal] = 0
    return out


def normalised(products: np.ndarray, least: np.ndarray | float = 0.0) -> np.ndarray:
    """CKA from products (representation, other); NaN for what has no more than `least` with itself."""
    own = np.diag(products)
    sizes = np.sqrt(np.where(own > least, own, np.nan))
    cka = np.clip(products / np.outer(sizes, sizes), -1, 1)
    np.fill_diagonal(cka, np.where(own > least, 1, np.nan))
    return cka


def _whole(rows: list[tuple[Grams, int]], estimator: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Products from all images, and without each block of them."""
    kernels = [site.gram(c).kernel for site, c in rows]
    places = leave_out(len(kernels[0]))
    enough = min(map(len, places)) >= FEWEST
    return _products(kernels, estimator), [
        _products([kernel[np.ix_(kept, kept)] for kernel in kernels], estimator) for kept in places if enough
    ]


def _products(kernels: list[np.ndarray], estimator: str) -> np.ndarray:
    flat = np.empty((len(kernels), kernels[0].size))
    for row, kernel in zip(flat, kernels, strict=True):
        row[:] = centred(kernel, estimator).ravel()
    return flat @ flat.T


def _batched(rows: list[tuple[BatchGrams, int]], estimator: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Means of the products over batches, of all and of all but each."""
    batches = range(len(rows[0][0].kernels))
    each = np.array([_products([site.kernels[b][c].numpy() for site, c in rows], estimator) for b in batches])
    total = each.sum(0)
    return total / len(each), [(total - one) / (len(each) - 1) for one in each] if len(each) > 1 else []


def _kept(part: Any, group: str) -> Iterable[Grams | BatchGrams]:
    for site in part.listened[group]:
        yield next(o for o in part.observables[site].values() if isinstance(o, Grams | BatchGrams))


def _by_model(partial: Partial, group: str) -> list[list[Grams | BatchGrams]]:
    return [list(_kept(part, group)) for part in partial.models.values()]


def _square(site: Grams | BatchGrams, condition: int) -> float:
    """The sum of all squared activations."""
    if isinstance(site, Grams):
        return float(np.trace(site.gram(condition).about("none")))
    return float(site.squares[condition])


def check_cka(estimator: str, minibatch: int | None, images: int) -> None:
    """NetprobeError for settings that `cka_matrix` cannot do with so many images."""
    if estimator not in ESTIMATORS:
        raise unknown("CKA estimator", estimator, ESTIMATORS)
    if images < FEWEST:
        raise NetprobeError(f"CKA needs {FEWEST} images or more; these are {images}")
    if minibatch is None:
        return
    if estimator == "biased":
        raise NetprobeError("minibatches need estimator='unbiased': the biased one depends on the size of the batch")
    if not FEWEST <= minibatch <= images:
        raise NetprobeError(f"minibatch={minibatch}: give {FEWEST} to {images}, the number of images")


def _shuffled(data: Data, minibatch: int, seed: int) -> Data:
    """Whole batches of `data` in random order: neighbours in a data set may be of one class."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return data.select(order[: len(data) // minibatch * minibatch])
