"""Similarity matrices of every site of every model, and of the images themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import xarray as xr
from torch import nn

from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.metrics import Similarity
from netprobe.metrics.base import variable
from netprobe.probing.partial import Partial
from netprobe.probing.probe import gather, named_models
from netprobe.representations.listing import models_with
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.room import require_room
from netprobe.representations.rsa import PIXEL_SIMILARITY


def similarity_matrices(
    models: nn.Module | Mapping[str, nn.Module],
    data: Data | Any,
    perturbations: Any = None,
    sites: Any = None,
    *,
    measure: str = "cosine",
    centre: str = "channel",
    **settings: Any,
) -> xr.DataTree:
    """How similar every two images are at every site of every model, clean and perturbed, and pixel by pixel.

    Parameters
    ----------
    models, data, perturbations, sites : as for `netprobe.probe`; no perturbations: clean images alone
    measure, centre : see `netprobe.metrics.Similarity`
    settings : other fields of `ProbeSettings`

    Returns
    -------
    DataTree /model/similarity: similarity (condition, site, image, other_image), exact and float64, and for images
    pixel_similarity (image, other_image) of the clean images, see `PixelSimilarity`; /model/accuracy. `npb.rsa`
    compares the matrices.

    Notes
    -----
    8 N^2 bytes a matrix, in memory and (before compression) on disk; activations of all N images are held for as many
    units as `memory` allows, in as many passes as that takes. The models are left as found.
    """
    data = data if isinstance(data, Data) else load_data(data)
    metric, named = Similarity(measure=measure, centre=centre), named_models(models)
    require_room(named, data, perturbations, sites, settings)
    return with_pixels(gather(named, data, perturbations, metric, sites, **settings), data)


def with_pixels(partial: Partial, data: Data) -> xr.DataTree:
    """The results of `partial`, with the pixel similarity of the images beside every model's matrices."""
    tree = partial.compute()
    if data.kind != "image" or len(data) < 2:
        return tree
    pixels = variable(
        "image other_image",
        PixelSimilarity(data).matrix().numpy(),
        "pixel similarity",
        "1",
        "cosine of the grey images less their mean image",
    )
    for model in models_with(tree, Similarity.name):
        tree[f"{model}/{Similarity.name}/{PIXEL_SIMILARITY}"] = pixels
    return tree
