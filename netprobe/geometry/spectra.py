"""Eigenspectra of activations under images and under white noise, of all units and of the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.devices import batch_size as rows_at_a_time
from netprobe.devices import device_of
from netprobe.errors import NetprobeError
from netprobe.geometry.jacobians import SITES, chosen_sites
from netprobe.guard import full_precision, undisturbed
from netprobe.metrics.base import interval, variable
from netprobe.metrics.finite_sample import UNDEFINED, Corrected, corrected
from netprobe.metrics.power_law import LEAST_RANKS, Fit, fit, fit_range, numerical_rank, sensitivity_band
from netprobe.metrics.spectrum import ROUND_OFF, eigenvalues
from netprobe.perturb.randomness import ImageGenerator, normal, stream_seed
from netprobe.probing.observables import Layout, block_members
from netprobe.probing.streaming import Moments
from netprobe.sites import Site, listening
from netprobe.uncertainty import jackknife_interval

INPUTS = ("images", "noise")
COUNTS = (10, 50, 100, 500, 1000, 1500, 2000)
MOST = 4096
"""Units whose covariance is computed: 128 MiB a site and jackknife block."""

LAST = {"images": 500, "noise": 100}


def unit_spectra(
    model: nn.Module,
    data: Data,
    sites: Any = SITES,
    *,
    inputs: Sequence[str] = INPUTS,
    units: Sequence[int] = COUNTS,
    first: int | None = None,
    last: int | None = None,
    noise: int | None = None,
    jackknife: bool = True,
    draws: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Eigenvalues of the covariance of a layer's units over images, and over white noise N(0, 1) in their place.

    Parameters
    ----------
    sites : patterns; "input", what the network is given, always comes too: much of a spectrum is inherited from there
    inputs : "images", "noise" or both; of noise as many samples as images, or `noise`
    units : spectra of the first so many units too, as far as there are more
    first, last : ranks fitted; None: as the metric "spectrum", up to 500 for images and 100 for noise
    jackknife : keep moments by blocks of images, for `alpha_jackknife`
    draws : samples of the law for `alpha_corrected` (32 are enough; at 2000 units two minutes a spectrum); 0: none

    Returns a Dataset over (inputs, site, count): `eigenvalues` (..., rank), NaN past the last; `alpha` with
    `alpha_interval` (the regression's), `alpha_band`, `alpha_jackknife`; `alpha_corrected` with its interval, the
    exponent of a law whose samples look like this (`metrics.finite_sample.corrected`); `fit_first`, `fit_last`, `r2`,
    `log_prefactor`, `rank_numeric`, `samples`, `variance` = sum lambda. `note` says why a site has none.

    Of N samples of D units of a flat spectrum the eigenvalues spread over (1 -+ sqrt(D / N))^2, Marchenko and Pastur's
    law: fewer than 3 D noise samples feign a slope. Neither the regression nor the jackknife knows of such bias, only
    `alpha_corrected` does. Pass an untrained network too: a random linear layer has nearly the exponent of the images.

    State: (units^2) float64 a site, and 8 times that with jackknife; sites of more than 4096 units are left out.
    Float64 throughout but for the network itself. Sources: Holzhausen et al., arXiv 2405.00679; Stringer et al. 2019.
    """
    unknown_inputs = [name for name in inputs if name not in INPUTS]
    if unknown_inputs or not inputs or min(units, default=1) < 1:
        raise NetprobeError(f"inputs={inputs!r}, units={units!r}: give 'images' or 'noise', and counts of 1 or more")
    listed, _ = chosen_sites(model, data, sites)
    first_site, _ = chosen_sites(model, data, "input")
    every = first_site + [site for site in listed if site.name != "input"]
    heard = [site for site in every if site.units <= MOST]
    samples = {name: noise or len(data) if name == "noise" else len(data) for name in inputs}
    moments = {}
    with undisturbed(model), full_precision(), torch.no_grad():
        with tqdm(total=sum(samples.values()), desc="spectra", unit="image", disable=not progress) as bar:
            for name in inputs:
                torch.manual_seed(seed)
                moments[name] = _gathered(model, data, heard, name, samples[name], jackknife, seed, bar)
        fitting = _Fitting(first, last, draws, seed)
        with tqdm(total=len(inputs) * len(every), desc="fits", unit="spectrum", disable=not progress) as bar:
            return _dataset(moments, every, sorted(set(units)), samples, fitting, bar)


def _gathered(
    model: nn.Module, data: Data, sites: Sequence[Site], name: str, samples: int, blocked: bool, seed: int, bar: tqdm
) -> dict[str, dict[int, Moments]]:
    """Moments of every site's units by block of images."""
    device, block = device_of(model), Layout.blocked(samples).block if blocked else 0
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    found: dict[str, dict[int, Moments]] = {site.name: {} for site in sites}
    for x, index in _shown(data, name, samples, device, dtype, seed):
        places = block_members(index, block)

        def take(site: Site, tensor: Tensor, places: list = places) -> None:
            rows, kept = tensor.flatten(1), found[site.name]
            for number, members in places:
                if number not in kept:  # one shift for all blocks makes leaving one out a plain difference
                    shift = next((m.shift for m in kept.values()), None)
                    kept[number] = Moments(rows.shape[1], rows.device, shift)
                kept[number].update(rows[members])

        with listening(model, list(sites), take):
            model(x)
        bar.update(len(x))
    return found


def _shown(data: Data, name: str, samples: int, device: torch.device, dtype: torch.dtype, seed: int):
    """Batches with their places: of images, or of noise of their shape, each sample from a stream of its own."""
    size = rows_at_a_time(data.shape, 1, device)
    if name == "images":
        yield from ((batch.x.to(dtype), batch.index) for batch in data.batches(size, device))
        return
    for index in torch.arange(samples).split(size):
        like = torch.empty(len(index), *data.shape, device=device, dtype=dtype)
        yield normal(like, ImageGenerator(stream_seed(seed, "white noise"), index)), index


class _Fitting:
    """How spectra are fitted."""

    def __init__(self, first: int | None, last: int | None, draws: int, seed: int) -> None:
        self.first, self.last, self.draws, self.seed = first, last, draws, seed

    def ranks(self, spectrum: np.ndarray, floor: float, inputs: str) -> tuple[int, int]:
        return fit_range(numerical_rank(spectrum, floor), self.first, self.last or LAST[inputs])

    def corrected(self, found: Fit, samples: int, rank: int, left_out: np.ndarray, device: Any) -> Corrected:
        enough = found.last - found.first + 1 >= LEAST_RANKS and found.last < samples
        if not (self.draws and enough):
            return UNDEFINED
        kept = left_out if len(left_out) > 2 and np.isfinite(left_out).all() else None
        ranks = (found.first, found.last)
        options = {"left_out": kept, "draws": self.draws, "seed": self.seed, "device": device}
        return corrected(found.alpha, samples, rank, *ranks, **options)


def _dataset(
    moments: dict[str, dict[str, dict[int, Moments]]],
    sites: Sequence[Site],
    counts: Sequence[int],
    samples: dict[str, int],
    fitting: _Fitting,
    bar: tqdm,
) -> xr.Dataset:
    known = [site for site in sites if site.units <= MOST]
    widest = max((site.units for site in known), default=1)
    counts = [*(c for c in counts if c < widest), 0]  # 0: all
    shape, ranks = (len(moments), len(sites), len(counts)), widest
    spectra = np.full((*shape, ranks), np.nan)
    scalars = {name: np.full(shape, np.nan) for name in SCALARS}
    bounds = {name: np.full((*shape, 2), np.nan) for name in BOUNDS}
    for i, name in enumerate(moments):
        for j, site in enumerate(sites):
            for k, count in enumerate(counts if site in known else ()):
                if count < site.units:
                    sizes = (count or site.units, site.units, samples[name])
                    one = _spectrum(moments[name][site.name], *sizes, name, fitting)
                    spectra[i, j, k, : len(one["eigenvalues"])] = one["eigenvalues"]
                    for each in scalars:
                        scalars[each][i, j, k] = one[each]
                    for each in bounds:
                        bounds[each][i, j, k] = one[each]
            bar.update(1)
    dims = "inputs site count"
    found = {"eigenvalues": variable(f"{dims} rank", spectra, "eigenvalue", "activation^2", "of the covariance")}
    found |= {name: variable(dims, scalars[name], *about) for name, about in SCALARS.items()}
    found |= {name: interval(dims, bounds[name], found[of], how) for name, (of, how) in BOUNDS.items()}
    notes = ["" if site in known else f"more than {MOST} units" for site in sites]
    found["note"] = variable("site", notes, "note", "1", "why there is no number")
    coords = {
        "inputs": list(moments),
        "samples": ("inputs", list(samples.values())),
        "site": [site.name for site in sites],
        "units": ("site", [site.units for site in sites]),
        "count": ["all" if count == 0 else str(count) for count in counts],
        "rank": np.arange(1, ranks + 1),
        "bound": ["low", "high"],
    }
    return xr.Dataset(found, coords, {"title": "spectra of units", "draws": fitting.draws})


SCALARS = {
    "alpha": ("power-law exponent", "1", "minus the slope of ln lambda on ln n"),
    "alpha_corrected": ("exponent without finite-sample bias", "1", "of a law whose samples have this slope"),
    "log_prefactor": ("log10 of the fitted line at rank 1", "1", "natural units of lambda"),
    "r2": ("R^2 of the fit", "1", "share of the variance of ln lambda explained"),
    "fit_first": ("first rank fitted", "1", "counted from 1"),
    "fit_last": ("last rank fitted", "1", "never past rank_numeric"),
    "rank_numeric": ("numerical rank", "1", "eigenvalues above round-off"),
    "variance": ("total variance", "activation^2", "sum of the eigenvalues"),
}
BOUNDS = {
    "alpha_interval": ("alpha", "regression, t distribution: knows nothing of finite samples"),
    "alpha_band": ("alpha", "smallest and largest alpha over ranges of ranks (no interval)"),
    "alpha_jackknife": ("alpha", "blocks of images left out in turn"),
    "alpha_corrected_interval": ("alpha_corrected", "samples of the law, or blocks of images left out in turn"),
}


def _spectrum(
    blocks: dict[int, Moments], count: int, units: int, samples: int, inputs: str, fitting: _Fitting
) -> dict[str, Any]:
    """The spectrum of the first `count` units, with its fits."""
    some = next(iter(blocks.values()))
    total = Moments(units, some.total.device)
    for part in blocks.values():
        total.merge(part)
    floor = ROUND_OFF["float32"]
    spectrum = eigenvalues(total.covariance[:count, :count])[: samples - 1]
    ranks = fitting.ranks(spectrum, floor, inputs)
    rank = numerical_rank(spectrum, floor)
    parts = blocks.values() if len(blocks) > 1 else ()
    rest = [eigenvalues(total.without(part).covariance[:count, :count]) for part in parts]
    known = [numerical_rank(each, floor) for each in rest]  # fewer without a block, so that all are fitted alike
    ranks = ranks[0], min(ranks[1], *known) if known else ranks[1]
    found = fit(spectrum, *ranks)
    left_out = np.array([fit(each, *ranks).alpha for each in rest])
    true = fitting.corrected(found, samples, rank if rank < samples - 1 else count, left_out, some.total.device)
    return {
        "eigenvalues": spectrum,
        "alpha": found.alpha,
        "alpha_interval": (found.low, found.high),
        "alpha_band": sensitivity_band(spectrum, *ranks),
        "alpha_jackknife": jackknife_interval(found.alpha, left_out),
        "alpha_corrected": true.alpha,
        "alpha_corrected_interval": (true.low, true.high),
        "log_prefactor": found.log_prefactor,
        "r2": found.r2,
        "fit_first": found.first,
        "fit_last": found.last,
        "rank_numeric": rank,
        "variance": spectrum.sum(),
    }
