"""Accuracy as a function of T."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.defenses.sca.conversion import self_consistent
from netprobe.defenses.sca.shown import Perturbations, at_steps, shown
from netprobe.guard import undisturbed
from netprobe.metrics.base import interval, variable
from netprobe.outputs import logits_of
from netprobe.uncertainty import wilson_intervals

STEPS = (1, 2, 4, 8, 16)


def accuracy_by_steps(
    models: nn.Module | Mapping[int, nn.Module],
    data: Data,
    perturbations: Perturbations | None = None,
    *,
    steps: Sequence[int] = STEPS,
    layer: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Accuracy for every T, clean and perturbed, every perturbation made anew for the network with that very T.

    Parameters
    ----------
    models : networks by the T that each was trained with, which is what the paper compares; or one, whose T is then set
        to each of `steps`: a diagnosis, for a network is worse at a T that it was not trained with.

    Returns a Dataset: accuracy(condition, steps) with its Wilson 95 % interval; the attribute `varied` says which of
    the two it is, "training" or "test". The networks are left as found.

    Shah and Raj, arXiv 2308.03956; in the public code T = 1, 2, 4, 8, 16 and Fashion-MNIST.
    """
    trained = isinstance(models, Mapping)
    networks = dict(models) if trained else dict.fromkeys(steps, models)
    total = len(data) * (1 + len(perturbations or {})) * len(networks)
    with tqdm(total=total, desc="accuracy by T", unit="image", disable=not progress) as bar:
        found = {}
        for count, network in networks.items():
            setting = contextlib.nullcontext() if trained else at_steps(self_consistent(network, layer)[1], count)
            with setting:
                found[count] = _right(network, data, perturbations, seed, bar)
    return _dataset(found, len(data), "training" if trained else "test")


def _right(model: nn.Module, data: Data, perturbations: Perturbations | None, seed: int, bar: tqdm) -> dict[str, int]:
    """How many images the network gets right, by condition."""
    right: dict[str, int] = {}
    with undisturbed(model):
        for condition, batch in shown(model, data, perturbations, seed, bar):
            with torch.no_grad():
                correct = logits_of(model(batch.x), len(batch.x)).argmax(1) == batch.y
            right[condition] = right.get(condition, 0) + int(correct.sum())
    return right


def _dataset(found: dict[int, dict[str, int]], images: int, varied: str) -> xr.Dataset:
    conditions = list(next(iter(found.values())))
    counts = np.array([[right[condition] for right in found.values()] for condition in conditions])
    bounds = wilson_intervals(counts, images)
    accuracy = variable("condition steps", counts / images, "accuracy", "1", "share of right predictions")
    variables = {
        "accuracy": accuracy,
        "accuracy_interval": interval("condition steps", bounds, accuracy, "Wilson score interval"),
    }
    coords = {"condition": conditions, "steps": list(found), "bound": ["low", "high"]}
    return xr.Dataset(variables, coords, {"title": "accuracy by T", "varied": varied, "images": images})
