"""Where in its layers a network has an image, and what a perturbation changes there: maps of the norms of an SNR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import interpolate

from netprobe.data import Data
from netprobe.devices import device_of
from netprobe.errors import NetprobeError
from netprobe.guard import full_precision, undisturbed
from netprobe.metrics.base import variable
from netprobe.perturb import ImageGenerator, apply
from netprobe.perturb.randomness import stream_seed
from netprobe.probing.probe import named_perturbations
from netprobe.sites import Site, find_sites, listening, select

TITLE = "what a site has of an image, and what is changed there"


def signal_maps(
    model: nn.Module,
    data: Data,
    perturbation: Any,
    sites: Any = "conv:in",
    *,
    image: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """The norms over channels that the signal-to-noise ratio of one image is made of, at every place of each site.

        signal_ij = ||f(x)_ij||_2     change_ij = ||f(x')_ij - f(x)_ij||_2
        SNR = 10 log10( sum_ij signal_ij^2 / sum_ij change_ij^2 )   in dB

    Parameters
    ----------
    model : any network; it is left as found.
    data : images in [0, 1].
    perturbation : one, as for `netprobe.probe`; with its name there it has the same random numbers for this image.
    sites : patterns as there; those without places, (N, C) or tokens, are left out.
    image : position in `data`.

    Returns a Dataset over `site`, and `y` and `x` of the image:
        signal, change (site, y, x)  in the unit of the site; smaller maps are enlarged, without smoothing
        snr_db (site)                of the maps before that; NaN where nothing is changed
        picture (channel, y, x)      the image, and `perturbed` what was made of it

    Errors: no site with places, several perturbations. Cost: two passes of one image, and the perturbation.
    Source: what Bakiskan (2022), dissertation, Fig. 5.5 explains by a drawing.
    """
    if data.kind != "image" or not -len(data) <= image < len(data):
        raise NetprobeError(f"image={image} of {data!r}: choose one of its images, from 0 to {len(data) - 1}")
    (batch,) = data.select([image % len(data)]).batches(1, device_of(model))
    ((name, changing), *more) = named_perturbations(perturbation, ()).items()
    if more:
        raise NetprobeError(f"{len(more) + 1} perturbations: maps are of one, such as {name!r}")
    generator = ImageGenerator(stream_seed(seed, name), torch.tensor([image % len(data)]))
    with undisturbed(model), full_precision():
        x, chosen = batch.x, _with_places(model, batch.x, sites)
        changed = apply(changing, model, x, batch.y, generator=generator)
        pairs = list(zip(*(_tensors(model, chosen, each) for each in (x, changed)), strict=True))
    return _dataset(chosen, pairs, x[0], changed[0])


def _with_places(model: nn.Module, x: Tensor, sites: Any) -> list[Site]:
    every = select(find_sites(model, x), sites)
    chosen = [site for site in every if len(site.shape) == 3 and site.channel_axis == 1 and site.batch_axis == 0]
    if not chosen:
        raise NetprobeError(
            f"the sites {sites!r} have no places (channels, height, width): choose some, such as 'conv'"
        )
    return chosen


def _tensors(model: nn.Module, sites: Sequence[Site], x: Tensor) -> list[Tensor]:
    """(C, H, W) float64 of each site."""
    found: dict[str, Tensor] = {}

    def keep(site: Site, tensor: Tensor) -> None:
        found[site.name] = tensor[0].double()

    with torch.no_grad(), listening(model, list(sites), keep):
        model(x)
    return [found[site.name] for site in sites]


def _dataset(
    sites: Sequence[Site], pairs: Sequence[tuple[Tensor, Tensor]], picture: Tensor, perturbed: Tensor
) -> xr.Dataset:
    size = tuple(picture.shape[1:])
    norms = [(clean.norm(dim=0), (other - clean).norm(dim=0)) for clean, other in pairs]
    signal, change = (np.stack([_enlarged(pair[k], size) for pair in norms]) for k in (0, 1))
    ratios = [float(s.square().sum() / c.square().sum()) if c.any() else np.nan for s, c in norms]
    found = {
        "signal": variable("site y x", signal, "signal", "1", "norm over channels of the clean tensor"),
        "change": variable("site y x", change, "change", "1", "norm over channels of perturbed minus clean"),
        "snr_db": variable(
            "site", 10 * np.log10(ratios), "SNR of the image", "dB", "sum of signal^2 over that of change^2"
        ),
        "picture": variable("channel y x", picture.cpu().numpy(), "image", "1", "as the network gets it"),
        "perturbed": variable("channel y x", perturbed.cpu().numpy(), "perturbed image", "1", "as the network gets it"),
    }
    return xr.Dataset(found, {"site": [site.name for site in sites]}, {"title": TITLE})


def _enlarged(norm: Tensor, size: tuple[int, ...]) -> np.ndarray:
    return interpolate(norm[None, None], size, mode="nearest")[0, 0].cpu().numpy()
