"""How often every channel is among the strongest of its place: whether a few of them fire for everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.defenses.hah.blocks import HaHBlock, strongest
from netprobe.defenses.hah.selecting import kth_smallest
from netprobe.devices import batch_size, device_of
from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.metrics.base import variable
from netprobe.sites import Site, find_sites, listening, select
from netprobe.uncertainty import bootstrap_interval

ALWAYS = 0.95
"""A channel that fires more often than this says the same of everything."""


def firing(model: nn.Module, data: Data, sites: Any = None, *, top: float = 0.1, progress: bool = True) -> xr.Dataset:
    """How often each channel of a site is above 0 and among the K = ceil(top C) largest of its place.

    A loss that only asks for a few strong channels a place can be satisfied by the same few everywhere ("cheating"),
    which then tell nothing about the image. Those fire at more than 95 % of all places of all images.

    Parameters
    ----------
    model : any network.
    data : images in [0, 1].
    sites : patterns as for `netprobe.probe`; None: the convolutions of HaH blocks, before ReLU, or all convolutions of
        a network without. Sites of one channel are left out.
    top : share of the channels that count as the strongest, in (0, 1).

    Returns a Dataset over `site` and `channel`; NaN where a site has fewer channels than others:
        frequency(site, channel)  share of places and images, in [0, 1], with its 95 % bootstrap interval over images;
                                  at most K / C on average; neither small nor large is good, 1 is useless
        always(site)              channels above 95 %: better 0
        even(site)                K / C, what channels that fire equally often would have at most

    Cost: one pass. Cekic, Bakiskan and Madhow, arXiv 2202.13074, and Bakiskan 2022, Fig. 5.3.
    """
    if not 0 < top < 1:
        raise NetprobeError(f"top={top!r}: the share of the channels that count as the strongest is between 0 and 1")
    device = device_of(model)
    with undisturbed(model), torch.no_grad():
        chosen = _chosen(model, next(iter(data.batches(1, device))).x, sites)
        shares = _measured(model, data, chosen, top, progress)
    return _dataset(chosen, [torch.cat(shares[site.name]).double().cpu().numpy() for site in chosen], top)


def _chosen(model: nn.Module, x: Tensor, sites: Any) -> list[Site]:
    own = {f"{path}.conv".lstrip(".") for path, module in model.named_modules() if isinstance(module, HaHBlock)}
    patterns = sites if sites is not None else (lambda site: site.module in own) if own else "conv"
    chosen = [site for site in select(find_sites(model, x), patterns) if site.channels > 1]
    if not chosen:
        raise NetprobeError(f"the sites {sites!r} have one channel each: choose some with several, such as 'conv'")
    return chosen


def _measured(model: nn.Module, data: Data, sites: Sequence[Site], top: float, progress: bool) -> dict[str, list]:
    """Shares of places (image, channel), batch by batch, by the site's name."""
    shares: dict[str, list[Tensor]] = {site.name: [] for site in sites}
    device = device_of(model)

    def listen(site: Site, tensor: Tensor) -> None:
        rows = tensor.movedim(site.channel_axis, -1).reshape(len(tensor), -1, site.channels)
        shares[site.name].append(_fires(rows, top))

    bar = tqdm(total=len(data), desc="firing", unit="image", unit_scale=True, disable=not progress)
    with bar, listening(model, list(sites), listen):
        for batch in data.batches(batch_size(data.shape, 1, device), device):
            model(batch.x)
            bar.update(len(batch.x))
    return shares


def _fires(rows: Tensor, top: float) -> Tensor:
    """Share of the places of (N, place, channel) at which each channel is above 0 and among the strongest."""
    channels = rows.shape[-1]
    least = kth_smallest(rows, channels - strongest(channels, top) + 1)
    return ((rows >= least) & (rows > 0)).float().mean(1)


def _dataset(sites: Sequence[Site], shares: Sequence[np.ndarray], top: float) -> xr.Dataset:
    widest = max(site.channels for site in sites)
    every = np.stack([np.pad(s, ((0, 0), (0, widest - s.shape[1])), constant_values=np.nan) for s in shares])
    values = np.moveaxis(every, 1, 2)  # (site, channel, image)
    frequency = values.mean(-1)
    bounds = bootstrap_interval(values)
    even = np.array([strongest(site.channels, top) / site.channels for site in sites])
    found = {
        "frequency": variable(
            "site channel", frequency, "firing frequency", "1", "share of places above 0 and among the K largest"
        ),
        "frequency_interval": variable(
            "site channel bound", bounds, "95 % interval of firing frequency", "1", "bootstrap over images"
        ),
        "always": variable("site", (frequency > ALWAYS).sum(-1), "channels that always fire", "1", "above 95 %"),
        "even": variable("site", even, "even firing frequency", "1", "K / C, of channels that all fire equally often"),
    }
    last = max(site.order for site in sites) or 1
    coords = {
        "site": [site.name for site in sites],
        "kind": ("site", [site.kind for site in sites]),
        "order": ("site", [site.order for site in sites]),
        "depth": ("site", [site.order / last for site in sites]),
        "channel": np.arange(widest),
        "bound": ["low", "high"],
    }
    return xr.Dataset(found, coords, {"title": "how often channels fire", "top": top, "limit": ALWAYS})
