"""Quantisers with several levels, and what attacks may take for their gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from netprobe.perturb.backward import in_gradient

SURROGATES = ("smooth", "identity")


def quantise(a: Tensor, thresholds: Sequence[float], surrogate: str | None = None, sharpness: float = 8.0) -> Tensor:
    """f(a) = 1/2 sum_i sgn(a - c_i), as many levels as there are thresholds c_i and one more, one apart.

    With -c and c, values are -1 below, 0 between and 1 above the two; on a threshold itself half a level. Its true
    gradient is zero. `surrogate` replaces it, never the value:

        smooth    that of 1/2 sum_i tanh(k (a - c_i)), k the `sharpness`
        identity  1 (straight-through)

    Bakiskan 2022, equations 4.2 and 4.3; appendix B.4.
    """
    exact = sum((a - c).sign() for c in thresholds) / 2
    if surrogate is None:
        return exact
    return in_gradient(exact, a if surrogate == "identity" else smooth(a, thresholds, sharpness))


def smooth(a: Tensor, thresholds: Sequence[float], sharpness: float) -> Tensor:
    """1/2 sum_i tanh(k (a - c_i)), k the `sharpness`: the quantiser with its steps rounded."""
    return sum(torch.tanh(sharpness * (a - c)) for c in thresholds) / 2
