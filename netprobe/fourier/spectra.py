"""Fourier spectra of perturbations: which spatial frequencies adversarial, minimal and random changes are made of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.devices import device_of
from netprobe.errors import NetprobeError
from netprobe.guard import full_precision, undisturbed
from netprobe.metrics.base import interval, variable
from netprobe.outputs import widened
from netprobe.perturb import ImageGenerator, apply, eps_of, family
from netprobe.perturb.randomness import stream_seed
from netprobe.probing.probe import named_models, named_perturbations
from netprobe.probing.streaming import ImageTable
from netprobe.uncertainty import bootstrap_interval

NODE = "perturbation_spectrum"
CUTOFFS = (4, 8)
ANY_MODEL = "any model"


def perturbation_spectra(
    models: nn.Module | Mapping[str, nn.Module] | None,
    data: Data | Any,
    perturbations: Any,
    *,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> xr.DataTree:
    """The spectrum of what perturbations change, delta = x' - x, averaged over the images of `data`.

    F_c = FFT2(delta_c) for channel c, A = mean_c |F_c|, P = mean_c |F_c|^2 (so that sum P = H W mean_c ||delta_c||^2).
    Every image is normalised before the mean over images, so that large perturbations do not outweigh small ones.
    The radius of a frequency is its cycles per shorter side of the image; ring r holds the radii in [r, r + 1).

    Parameters
    ----------
    models : an nn.Module, several by name, or None for perturbations that look at no model
    data : a `Data` of images, or anything `netprobe.data.load` takes
    perturbations : as for `netprobe.probe`
    seed : of every random draw, as in `netprobe.probe`: noise belongs to an image, not to its batch

    Returns
    -------
    DataTree /model/perturbation_spectrum, see `spectra`.

    Notes
    -----
    State: a spectrum a perturbation, and a few numbers an image. Cost: the perturbations, and a float64 FFT of every
    delta. The models are left as found.

    References
    ----------
    Definitions follow the Fourier analysis of minimal perturbations in arXiv 2410.03952.
    """
    data = data if isinstance(data, Data) else load_data(data)
    named = named_perturbations(perturbations, ())
    if not named:
        raise NetprobeError("no perturbations given: a spectrum is that of what one changes")
    every = {ANY_MODEL: None} if models is None else named_models(models)
    nodes = {
        f"/{name}/{NODE}": spectra(_gathered(model, data, named, batch_size, seed, progress), named)
        for name, model in every.items()
    }
    return xr.DataTree.from_dict(nodes)


def spectra(
    accumulated: Mapping[str, FourierSpectrum], perturbations: Mapping[str, Callable] | None = None
) -> xr.Dataset:
    """The results of accumulators, by the names of their perturbations; `perturbations` tell family and eps.

    spectrum (perturbation, frequency_y, frequency_x) : mean over images of A / sum A, zero frequency in the centre
    log_spectrum : its log10
    ring_energy (perturbation, radius) : mean over images of the share of P in each ring; sums to 1
    profile (perturbation, radius) : ring_energy over the share of frequencies in the ring; 1 for white noise
    low_frequency_share (perturbation, cutoff) : mean over images of the share of P in the rings up to the cutoff
    centroid (perturbation) : mean over images of sum(radius P) / sum P, in cycles per shorter side
    ring_energy_image, low_frequency_share_image, centroid_image : of each image; NaN for images that did not change
    changed (perturbation) : how many images changed; the others are left out of every mean

    Intervals are 95 % percentile bootstraps over images. Neither larger nor smaller is better.
    """
    names = list(accumulated)
    known = {name: (perturbations or {}).get(name) for name in names}
    each = [accumulator.results() for accumulator in accumulated.values()]
    return xr.concat(each, xr.DataArray(names, dims="perturbation", name="perturbation"), join="exact").assign_coords(
        family=("perturbation", [name if p is None else family(p) for name, p in known.items()]),
        eps=("perturbation", [np.nan if p is None else eps_of(p) for p in known.values()]),
    )


class FourierSpectrum:
    """The mean spectrum of perturbations of equally large images, in batches of any size and order.

    Exact under merge. State: (H, W) float64 and, for each image, its ring energies and centroid.
    """

    def __init__(self) -> None:
        self.total: Tensor | None = None  # sum over changed images of A / sum A, zero frequency first
        self.changed = 0
        self._table = ImageTable()

    def update(self, delta: Tensor, images: Tensor | Sequence[int]) -> None:
        """Add `delta` (N, C, H, W), the perturbations of the data-set positions `images` (N,)."""
        if delta.ndim != 4:
            raise NetprobeError(f"spectra are of images (N, C, H, W), not of {tuple(delta.shape)}")
        amplitudes = torch.fft.fft2(widened(delta)).abs()
        amplitude, power = amplitudes.mean(1), amplitudes.square().mean(1)
        self._add(amplitude[power.sum((1, 2)) > 0])
        radius = radii(*delta.shape[-2:]).to(power)
        rings = power.new_zeros(len(power), int(radius.max()) + 1)
        rings.index_add_(1, radius.flatten().long(), power.flatten(1))
        moment = (radius * power).sum((1, 2))
        shares = torch.cat([rings, moment[:, None]], 1) / power.sum((1, 2))[:, None]  # NaN where nothing changed
        self._table.update(torch.as_tensor(images), shares.cpu())

    def merge(self, other: FourierSpectrum) -> FourierSpectrum:
        """Add what `other` has seen. Returns self."""
        if other.total is not None:
            self._accumulate(other.total, other.changed)
        self._table.merge(other._table)
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole state, which `of_arrays` reads back."""
        if self.total is None:
            raise NetprobeError("no perturbation was given to this spectrum: update it first")
        images, rows = self._table.read()
        return {"total": self.total.cpu().numpy(), "changed": np.array(self.changed), "images": images, "rows": rows}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> FourierSpectrum:
        """The spectrum whose `arrays` these are."""
        spectrum = cls()
        spectrum._accumulate(torch.from_numpy(arrays["total"]), int(arrays["changed"]))
        spectrum._table.update(torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["rows"]))
        return spectrum

    def results(self) -> xr.Dataset:
        """See `spectra`; without the dim perturbation."""
        if self.total is None:
            raise NetprobeError("no perturbation was given to this spectrum: update it first")
        images, values = self._table.read()
        radius = radii(*self.total.shape).numpy()
        white = np.bincount(radius.astype(int).ravel()) / radius.size
        rings, centroid = values[:, :-1].T, values[:, -1]
        low = np.stack([rings[: cutoff + 1].sum(0) for cutoff in CUTOFFS])
        mean = np.fft.fftshift(self.total.cpu().numpy()) / (self.changed or np.nan)
        with np.errstate(divide="ignore"):
            pictures = _pictures(mean, np.log10(mean))
        variables = pictures | _estimates(rings, white, low, centroid)
        variables |= {
            "ring_energy_image": variable("radius image", rings, "energy in the ring", "1", "of one image"),
            "low_frequency_share_image": variable("cutoff image", low, "low-frequency share", "1", "of one image"),
            "centroid_image": variable("image", centroid, "spectral centroid", "cycles per image", "of one image"),
            "changed": variable("", self.changed, "images changed", "images", "images that the perturbation changed"),
        }
        return xr.Dataset(variables, _coordinates(mean.shape, len(white), images))

    def _add(self, amplitude: Tensor) -> None:
        shares = amplitude / amplitude.sum((1, 2), keepdim=True)
        self._accumulate(shares.sum(0), len(shares))

    def _accumulate(self, total: Tensor, changed: int) -> None:
        if self.total is not None and self.total.shape != total.shape:
            raise NetprobeError(
                f"spectra are of images of one size: {tuple(self.total.shape)} until now, here {tuple(total.shape)}"
            )
        self.total = total if self.total is None else self.total + total
        self.changed += changed


def radii(height: int, width: int) -> Tensor:
    """Cycles per shorter side of each frequency of an FFT2, (H, W) float64, zero frequency first."""
    down, right = (torch.fft.fftfreq(size, dtype=torch.float64) for size in (height, width))
    # Rounded, because hypot of 3/32 and 4/32 times 32 must be 5 and not a little less.
    return (min(height, width) * torch.hypot(down[:, None], right)).round(decimals=9)


def _gathered(
    model: nn.Module | None, data: Data, named: Mapping[str, Callable], batch_size: int, seed: int, progress: bool
) -> dict[str, FourierSpectrum]:
    accumulated = {name: FourierSpectrum() for name in named}
    batches = data.batches(batch_size, "cpu" if model is None else device_of(model))
    with contextlib.nullcontext() if model is None else undisturbed(model), full_precision():
        for x, y, index in tqdm(batches, "spectra", disable=not progress, leave=False):
            for name, perturbation in named.items():
                generator = ImageGenerator(stream_seed(seed, name), index)
                changed = apply(perturbation, model, x, y, generator=generator)
                accumulated[name].update(widened(changed) - widened(x), index)
    return accumulated


def _pictures(mean: np.ndarray, logarithm: np.ndarray) -> dict[str, xr.Variable]:
    plane = "frequency_y frequency_x"
    how = "mean over images of |FFT2(x' - x)| divided by its sum, zero frequency centred"
    return {
        "spectrum": variable(plane, mean, "amplitude spectrum", "1", how),
        "log_spectrum": variable(plane, logarithm, "log10 of the amplitude spectrum", "1", f"log10 of the {how}"),
    }


def _estimates(rings: np.ndarray, white: np.ndarray, low: np.ndarray, centroid: np.ndarray) -> dict[str, xr.Variable]:
    """Means over images with their intervals."""
    in_rings = "mean over images of the share of |FFT2(x' - x)|^2 in frequencies of radius [r, r + 1)"
    estimates = {
        "ring_energy": ("radius", rings, "energy in the ring", "1", in_rings),
        "profile": (
            "radius",
            rings / white[:, None],
            "power relative to white noise",
            "1",
            f"{in_rings}, over the share of frequencies",
        ),
        "low_frequency_share": ("cutoff", low, "low-frequency share", "1", f"{in_rings}, r up to the cutoff"),
        "centroid": (
            "",
            centroid,
            "spectral centroid",
            "cycles per image",
            "mean over images of the power-weighted radius of frequencies",
        ),
    }
    return dict(_with_intervals(estimates))


def _with_intervals(estimates: Mapping[str, tuple]) -> Iterable[tuple[str, xr.Variable]]:
    for name, (dims, values, *about) in estimates.items():
        estimate = variable(dims, _mean(values), *about)
        yield name, estimate
        bounds = bootstrap_interval(values)
        yield f"{name}_interval", interval(dims, bounds, estimate, "percentile bootstrap over images")


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is defined; NaN for nothing."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(-1) / defined.sum(-1)


def _coordinates(shape: tuple[int, ...], rings: int, images: np.ndarray) -> dict[str, Any]:
    frequencies = [np.fft.fftshift(np.fft.fftfreq(size) * size) for size in shape]
    return {
        "frequency_y": frequencies[0],
        "frequency_x": frequencies[1],
        "radius": np.arange(rings),
        "cutoff": list(CUTOFFS),
        "image": images,
        "bound": ["low", "high"],
    }
