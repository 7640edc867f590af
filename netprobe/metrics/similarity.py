"""How similar a whole representation stays: linear CKA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from netprobe.metrics.base import Metric, Readings, interval, variable
from netprobe.probing.kernels import KernelReduction, Kernels, leave_out, recentred
from netprobe.probing.observables import Layout, Observable
from netprobe.uncertainty import BLOCKS, jackknife_interval


@dataclass(frozen=True)
class CKA(Metric):
    """Linear centred kernel alignment between the clean and the perturbed representation of the same images.

        CKA = <K, K'>_F / (||K||_F ||K'||_F),   K = X X^T of the centred activations X (image, unit) of the whole layer

    Returns `cka` (perturbation, site) in [0, 1] with the interval of a jackknife over blocks of images. 1
    means the same geometry up to rotation and one scale; NaN for a layer that is constant over images. Biased upwards
    when there are fewer images than units, more so the fewer. Exact, through the image-by-image Gram matrices (see
    `netprobe.probing.kernels`). Source: Kornblith et al. 2019.

    >>> import netprobe as npb
    >>> net, half = npb.load("digits_cnn"), {"half": lambda model, x, y, *, generator: x / 2}  # one scale for all
    >>> tree = npb.probe({"net": net}, npb.data.load("digits", limit=20), half, npb.CKA(), "input", progress=False)
    >>> tree["net/cka/cka"].values.round(6)
    array([[1.]])
    """

    name: ClassVar[str] = "cka"

    def observables(self, layout: Layout) -> list[Observable]:
        return [Alignment()]

    def compute(self, readings: Readings) -> xr.Dataset:
        sites = readings(Alignment.key)
        dims = "perturbation site"
        cka = variable(
            dims,
            np.stack([s.results["cka"] for s in sites], -1),
            "linear CKA",
            "1",
            "<K, K'> / (||K|| ||K'||), centred",
        )
        out = np.stack([s.results["without"] for s in sites], -1)
        bounds = jackknife_interval(cka.values, out).clip(0, 1)
        how = f"{BLOCKS} blocks of images left out in turn, cut to [0, 1]"
        return readings.dataset({"cka": cka, "cka_interval": interval(dims, bounds, cka, how)})


class Alignment(KernelReduction):
    """Linear CKA of every perturbed condition with the clean one, and the same without each block of images."""

    key = ("cka",)

    def pairs(self, conditions: Sequence[str]) -> set[tuple[int, int]]:
        return {(c, c) for c in range(len(conditions))}

    def reduce(self, kernels: Kernels, conditions: Sequence[str]) -> dict[str, np.ndarray]:
        perturbed = range(1, len(conditions))
        kept = leave_out(len(kernels[0, 0]))
        out = [[_cka(*(recentred(kernels[c, c][k][:, k]) for c in (0, p))) for p in perturbed] for k in kept]
        return {
            "cka": np.array([_cka(kernels[0, 0], kernels[p, p]) for p in perturbed]),
            "without": np.array(out).reshape(len(kept), len(perturbed)),
        }


def _cka(clean: Tensor, perturbed: Tensor) -> float:
    size = clean.norm() * perturbed.norm()
    return float(torch.sum(clean * perturbed) / size) if size > 0 else np.nan
