"""How much a network's activations move with its input: norms of the Jacobian at every site, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from netprobe.data import Batch, Data
from netprobe.devices import batch_size as rows_at_a_time
from netprobe.devices import device_of
from netprobe.errors import NetprobeError, unknown
from netprobe.geometry.linearised import INPUT, LocalMap, linearised
from netprobe.geometry.norms import Norm, estimated_frobenius, exact_frobenius, exact_norms, operator_norm
from netprobe.guard import full_precision, undisturbed
from netprobe.metrics.base import interval, variable
from netprobe.perturb.randomness import ImageGenerator, stream_seed
from netprobe.sites import Site, find_sites, select
from netprobe.uncertainty import bootstrap_interval

SITES = "weighted,activation"
METHODS = ("auto", "exact", "estimate")
DRAWS = 64

SMALL = 256
"""Up to this many rows or columns both norms come from all of them."""

MEDIUM = 1024
"""Up to this many the Frobenius norm does."""


@dataclass(frozen=True)
class Measuring:
    """How to measure the norms of one Jacobian."""

    method: str = "auto"
    draws: int = DRAWS
    tolerance: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        if self.draws < 2 or not 0 < self.tolerance < 1:
            raise NetprobeError(f"draws={self.draws}, tolerance={self.tolerance}: give 2 or more, between 0 and 1")

    def methods(self, smaller: int) -> tuple[str, str]:
        """How the Frobenius and the operator norm are found where the smaller side has so many dimensions."""
        if self.method != "auto":
            return (self.method, self.method)
        return ("exact" if smaller <= MEDIUM else "estimate"), ("exact" if smaller <= SMALL else "estimate")

    def frobenius(self, j: LocalMap, site: str, images: torch.Tensor) -> Norm:
        """The Frobenius norm alone."""
        if self.methods(min(j.units, j.values))[0] == "exact":
            return exact_frobenius(j)
        return estimated_frobenius(j, self.draws, ImageGenerator(stream_seed(self.seed, f"jacobian {site}"), images))

    def norms(self, j: LocalMap, site: str, images: torch.Tensor) -> tuple[Norm, Norm]:
        """Both norms."""
        if self.methods(min(j.units, j.values))[1] == "exact":
            return exact_norms(j)
        return self.frobenius(j, site, images), operator_norm(j, self.tolerance, self.seed)


def jacobian_norms(
    model: nn.Module,
    data: Data,
    sites: Any = SITES,
    *,
    wrt: str = INPUT,
    method: str = "auto",
    draws: int = DRAWS,
    tolerance: float = 1e-3,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """||J||_F and ||J||_2 of J = d a / d x, a the activations of a site, at every image.

    Parameters
    ----------
    sites : patterns as in `netprobe.sites.selection`
    wrt : what to differentiate by: the input, or the output of a module, such as "scale" where a network rescales its
        inputs: then perturbations are measured in those units
    method : "exact": from all rows of J, or all columns; "estimate": the Frobenius norm from `draws` random
        projections, with its standard error, the operator norm by Lanczos steps to within `tolerance`; "auto": the
        Frobenius norm exactly up to 1024 dimensions of the smaller side, the operator norm up to 256

    Returns a Dataset: frobenius(site, image) and operator(site, image), in units of activation over those of `wrt`,
    each with its `_error` (0 where exact); their means over images, `mean_frobenius` and `mean_operator`, with
    bootstrap 95 % intervals; `units` and `note` of each site. NaN, with the reason in `note`, where a site has no
    gradient or its operations cannot be differentiated twice. Larger means less smooth; of norms that depend on the
    scale of the activations compare only those of logits, or of like sites.

    The derivative is the true one, not what layers declare for attacks. Images must not notice one another; the model
    is in eval mode and left as found. Cost a site: min(units, values) backward passes of every image, or `draws`, and
    some 20 of each kind for the operator norm. Memory: the graph of `batch_size` images and 8 times their activations.

    >>> import torch
    >>> import netprobe as npb
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    >>> found = npb.jacobian_norms(net, npb.data.load("digits", limit=20), "output", progress=False)
    >>> bool(abs(found.mean_frobenius - net[1].weight.norm().item()) < 1e-5)
    True
    """
    measuring = Measuring(method, draws, tolerance, seed)
    device = device_of(model)
    size = batch_size or max(1, rows_at_a_time(data.shape, 1, device) // 4)
    chosen, source = chosen_sites(model, data, sites, wrt)
    found: list[np.ndarray] = []
    notes = dict.fromkeys((site.name for site in chosen), "")
    with (
        tqdm(total=len(data), desc="Jacobians", unit="image", disable=not progress) as bar,
        undisturbed(model),
        full_precision(),
    ):
        torch.manual_seed(seed)
        for batch in data.batches(size, device):
            found.append(_of_batch(model, batch, chosen, source, measuring, notes))
            bar.update(len(batch.x))
    return _dataset(np.concatenate(found, -1), chosen, measuring, notes, wrt, int(np.prod(_values(data, source))))


def chosen_sites(model: nn.Module, data: Data, patterns: Any, wrt: str = INPUT) -> tuple[list[Site], Site | None]:
    """The sites that the patterns choose, and the one to differentiate by; None is the input."""
    x = next(iter(data.select([0]).batches(1, device_of(model)))).x
    every = find_sites(model, x.to(next(model.parameters(), x).dtype))
    source = None if wrt == INPUT else select(every, wrt)
    if source is not None and len(source) > 1:
        raise NetprobeError(f"wrt={wrt!r} is {len(source)} sites: name one")
    return select(every, patterns), source and source[0]


def _values(data: Data, source: Site | None) -> Sequence[int]:
    return data.shape if source is None else source.shape


def _of_batch(
    model: nn.Module,
    batch: Batch,
    sites: Sequence[Site],
    source: Site | None,
    measuring: Measuring,
    notes: dict[str, str],
) -> np.ndarray:
    """(frobenius and its error, operator norm and its error; site; image)."""
    x = batch.x.to(next(model.parameters(), batch.x).dtype)
    found = np.full((4, len(sites), len(x)), np.nan)
    with linearised(model, sites, x, source) as maps:
        for place, site in enumerate(sites):
            j = maps[site.name]
            if not j.a.requires_grad:
                notes[site.name] = "has no gradient: look for no_grad, detach, rounding or numpy before it"
                continue
            try:
                norms = measuring.norms(j, site.name, batch.index)
            except RuntimeError as error:  # what autograd says of operations that it cannot differentiate (twice)
                notes[site.name] = str(error).splitlines()[0]
                continue
            parts = (part for norm in norms for part in (norm.value, norm.error))
            found[:, place] = torch.stack([part.detach().double().cpu() for part in parts]).numpy()
    return found


def _dataset(
    values: np.ndarray, sites: Sequence[Site], measuring: Measuring, notes: dict[str, str], wrt: str, inputs: int
) -> xr.Dataset:
    ways = [measuring.methods(min(site.units, inputs)) for site in sites]
    unit = f"activation / {wrt}"
    found: dict[str, xr.Variable] = {}
    names = (
        ("frobenius", "Frobenius norm of the Jacobian", "||J||_F"),
        ("operator", "operator norm of the Jacobian", "||J||_2"),
    )
    for number, (name, long_name, symbol) in enumerate(names):
        each, error = values[2 * number : 2 * number + 2]
        how = ("standard error; 0 where exact", "some singular value is as near; 0 where exact")[number]
        mean = variable("site", each.mean(-1), f"mean {long_name}", unit, f"{symbol}, mean over images")
        found |= {
            name: variable("site image", each, long_name, unit, f"{symbol} of d(site) / d({wrt})"),
            f"{name}_error": variable("site image", error, f"error of the {long_name}", unit, how),
            f"mean_{name}": mean,
            f"mean_{name}_interval": interval("site", bootstrap_interval(each), mean, "bootstrap over images"),
            f"{name}_method": variable("site", [way[number] for way in ways], "method", "1", "exact or estimate"),
        }
    found["units"] = variable("site", [site.units for site in sites], "units", "1", "numbers per image at the site")
    found["note"] = variable("site", list(notes.values()), "note", "1", "why there is no number")
    order = np.array([site.order for site in sites])
    coords = {
        "site": [site.name for site in sites],
        "kind": ("site", [site.kind for site in sites]),
        "order": ("site", order),
        "depth": ("site", order / max(order.max(), 1)),
        "image": np.arange(values.shape[-1]),
        "bound": ["low", "high"],
    }
    return xr.Dataset(found, coords, {"title": "norms of Jacobians", "wrt": wrt, "draws": measuring.draws})
