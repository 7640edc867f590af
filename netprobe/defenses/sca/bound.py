"""How large a step is sure to lower the energy."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import svds
from torch import Tensor

from netprobe.defenses.sca.layers import SelfConsistent
from netprobe.defenses.sca.unrolled import masked

SMALL = 64
"""Matrices with a side as short as this are decomposed; of others Lanczos finds the largest singular value."""


def curvature(layer: SelfConsistent) -> float:
    """L = (1 + ||C~||_2)^2 + lam ||V||_2^2, an upper bound of the curvature of the energy wherever it has one.

    With eta <= 2 / L and no cap active no step raises the energy (phi projects onto a >= 0). It is conservative: with
    eta = 0.25 the energy still fell at L = 18.
    """
    lateral, feedback = spectral_norm(masked(layer.lateral.detach())), spectral_norm(layer.feedback.detach())
    return (1 + lateral) ** 2 + layer.lam * feedback**2


def spectral_norm(matrix: Tensor) -> float:
    """The largest singular value, to 1e-6 of it."""
    values = matrix.double().cpu().numpy()
    if min(values.shape) <= SMALL:
        return float(np.linalg.norm(values, 2))
    start = np.random.default_rng(0).standard_normal(min(values.shape))
    return float(svds(values, k=1, tol=1e-6, v0=start, return_singular_vectors=False)[0])
