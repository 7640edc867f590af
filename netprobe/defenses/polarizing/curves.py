"""The quantiser and the regularisers as functions of one filter output."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from netprobe.defenses.polarizing.bumps import bumps
from netprobe.defenses.polarizing.defense import PolarizingDefense
from netprobe.defenses.quantiser import quantise, smooth
from netprobe.metrics.base import variable


def quantiser_curves(defense: PolarizingDefense | None = None, points: int = 801) -> xr.Dataset:
    """q(z), its smooth surrogate and the bumps B1 and B2 of `defense`, at `points` outputs z on [-1, 1].

    Returns a Dataset over `z`: quantised, smooth, first_bump, second_bump.
    """
    defense = defense or PolarizingDefense()
    z, cuts = torch.linspace(-1, 1, points, dtype=torch.float64), (-defense.cut, defense.cut)
    curves = {
        "quantised": (quantise(z, cuts), "q(z)", "1/2 sgn(z - c) + 1/2 sgn(z + c)"),
        "smooth": (smooth(z, cuts, defense.sharpness), "smooth q(z)", "1/2 tanh(k (z - c)) + 1/2 tanh(k (z + c))"),
        "first_bump": (bumps(z, (0.0,), defense.spread_width), "B1(z)", "exp(-z^2 / 2 s1^2)"),
        "second_bump": (bumps(z, cuts, defense.gap_width), "B2(z)", "exp(-(z -+ c)^2 / 2 s2^2), summed"),
    }
    found = {name: variable("z", values.numpy(), label, "1", text) for name, (values, label, text) in curves.items()}
    return xr.Dataset(found, {"z": np.asarray(z)}, {"threshold": defense.cut, "sharpness": defense.sharpness})
