"""A self-consistent layer in pictures: its activations in the plane, step by step, and its lateral weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from scipy.sparse.linalg import svds
from torch import nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.defenses.sca.conversion import self_consistent
from netprobe.defenses.sca.settling import entering
from netprobe.defenses.sca.shown import Perturbations, shown
from netprobe.defenses.sca.unrolled import masked
from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.metrics.base import variable

STEPS = (1, 4, 8, 16)
MOST = 256
"""Units of a map of C."""
SHARES = (0.5, 0.9, 0.99, 1.0)
"""Of lateral weights, at which their sizes are told."""


def activation_planes(
    model: nn.Module,
    data: Data,
    perturbations: Perturbations | None = None,
    *,
    steps: Sequence[int] = STEPS,
    layer: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Activations after some of the steps on their two directions of largest variance, of all steps and conditions
    together: one plane for all, so that panels can be compared.

    Returns a Dataset: coordinate(condition, step, image, axis), about the common mean; label(image); explained(axis),
    the share of the variance along each. Signs of the axes are such that the largest weight of each is positive.

    Memory: all these activations, in float64.
    """
    if not steps or min(steps) < 0:
        raise NetprobeError(f"steps={steps!r}: give some numbers of steps, 0 or more")
    _, settled = self_consistent(model, layer)
    wanted, found = sorted(set(steps)), {}
    total = len(data) * (1 + len(perturbations or {}))
    with tqdm(total=total, desc="planes", unit="image", disable=not progress) as bar, undisturbed(model):
        for condition, batch in shown(model, data, perturbations, seed, bar):
            with torch.no_grad():
                path = settled.trajectory(entering(model, settled, batch.x), wanted[-1])
                kept = [a.view(len(batch.x), -1) for t, (a, _) in enumerate(path) if t in wanted]
            found.setdefault(condition, []).append(torch.stack(kept).double().cpu().numpy())
    values = np.stack([np.concatenate(parts, 1) for parts in found.values()])
    flat = values.reshape(-1, values.shape[-1])
    coordinates, explained = _plane(flat - flat.mean(0))
    variables = {
        "coordinate": variable(
            "condition step image axis", coordinates.reshape(*values.shape[:-1], 2), "principal component", "1", "of a"
        ),
        "label": variable("image", data.labels.numpy(), "label", "class", "index of the true class"),
        "explained": variable("axis", explained, "explained variance", "1", "share of the variance of all activations"),
    }
    coords = {"condition": list(found), "step": wanted, "axis": [1, 2]}
    return xr.Dataset(variables, coords, {"title": "activations in the plane", "steps": settled.steps})


def _plane(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (row, 2) and shares of variance (2,)."""
    start = np.random.default_rng(0).standard_normal(min(centred.shape))
    small = min(centred.shape) < 8  # too small for Lanczos
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False) if small else svds(centred, k=2, v0=start)
    first = np.argsort(-sizes)[:2]
    axes = axes[first] * np.sign(np.take_along_axis(axes[first], np.abs(axes[first]).argmax(1)[:, None], 1))
    return centred @ axes.T, sizes[first] ** 2 / (centred**2).sum()


def lateral_map(model: nn.Module, *, layer: str | None = None, most: int = MOST) -> xr.Dataset:
    """The lateral weights C~ of a self-consistent layer.

    Returns a Dataset:
        weight(unit, other)  by which `other` predicts `unit`; 0 on the diagonal. Of more than `most` units as many,
                             evenly spaced; the attribute `units` says how many there are
        size(share)          quantiles of |C_ij| over all pairs of units; NaN for a single unit
    """
    if most < 1:
        raise NetprobeError(f"most={most}: give 1 or more")
    name, settled = self_consistent(model, layer)
    there = np.unique(np.linspace(0, settled.units - 1, min(most, settled.units)).round().astype(int))
    weights = masked(settled.lateral.detach()).double().cpu().numpy()
    pairs = np.abs(weights)[~np.eye(settled.units, dtype=bool)]
    sizes = np.quantile(pairs, SHARES) if pairs.size else np.full(len(SHARES), np.nan)
    variables = {
        "weight": variable(
            "unit other", weights[np.ix_(there, there)], "lateral weight", "1", "C with a diagonal of zeros"
        ),
        "size": variable("share", sizes, "size of a lateral weight", "1", "|C_ij| that this share does not exceed"),
    }
    attrs = {"title": "lateral weights", "units": settled.units, "layer": name}
    return xr.Dataset(variables, {"unit": there, "other": there, "share": list(SHARES)}, attrs)
