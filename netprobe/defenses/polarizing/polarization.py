"""How polarized the outputs of a front end are: their histogram, and how much of it is where attacks can reach."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.defenses.front_end import Defended
from netprobe.defenses.polarizing.layers import PolarizingFrontEnd, TernaryFrontEnd
from netprobe.devices import batch_size, device_of
from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.metrics.base import variable
from netprobe.uncertainty import bootstrap_interval

BINS = 100
SHARES = {
    "danger": "share of outputs within eps of a threshold: what a perturbation can carry over it",
    "centre": "share of outputs within 0.1 of 0",
    "extreme": "share of outputs with |z| > 0.8",
}


def polarization(models: Mapping[str, nn.Module], data: Data, eps: float = 0.3, *, progress: bool = True) -> xr.Dataset:
    """What the front ends of `models`, such as one after every stage of training, put out before the quantiser.

    Parameters
    ----------
    models : networks of `PolarizingDefense` (`netprobe.fit`, `Trained.stages`), by name; of `PixelQuantisation` too.
    data : images in [0, 1].
    eps : Linf budget that the danger zones are for, 0 or more.

    Returns a Dataset over `stage`, the names:
        density(stage, bin)      of z over all images, filters and positions: 100 bins on [-1, 1], of integral 1
        danger, centre, extreme  shares of z, (stage,): P(||z| - c| < eps), P(|z| < 0.1), P(|z| > 0.8); each with its
                                 95 % bootstrap interval over images. Less danger is better; always show it beside the
                                 histogram, whose gaps look emptier than they are on a logarithmic axis
        flatness(stage, filter)  (||w||_1 / ||w||_2)^2: 1 for a filter of one pixel, its number of weights for a flat
                                 one; NaN for a dead filter
        weight(stage, filter, channel, row, column)  of the filters
        threshold(stage)         c
    flatness and weight are missing if a front end has no filters, or others have filters of another shape.

    Cost: one convolution an image and stage. Bakiskan 2022, section 4.1 and figures 4.4 and 4.6.
    """
    if eps < 0:
        raise NetprobeError(f"eps={eps!r} must not be below 0: it is the half width of the danger zones")
    fronts = {name: _front(name, model) for name, model in models.items()}
    total = len(data) * len(fronts)
    with tqdm(total=total, desc="polarization", unit="image", unit_scale=True, disable=not progress) as bar:
        found = {name: _measured(front, models[name], data, eps, bar) for name, front in fronts.items()}
    counts, shares = (np.stack(part) for part in zip(*found.values(), strict=True))
    return _dataset(fronts, counts, shares, eps)


def _front(name: str, model: nn.Module) -> TernaryFrontEnd:
    if not (isinstance(model, Defended) and isinstance(model.front, TernaryFrontEnd)):
        raise NetprobeError(
            f"{name} is a {type(model).__name__} without a polarizing front end: train one with fit('polarizing', ...)"
        )
    return model.front


def _measured(
    front: TernaryFrontEnd, model: nn.Module, data: Data, eps: float, bar: tqdm
) -> tuple[np.ndarray, np.ndarray]:
    """Counts (bin,) of z, and the shares (kind, image)."""
    counts, shares = torch.zeros(BINS, dtype=torch.int64), []
    device = device_of(model)
    with undisturbed(model), torch.no_grad():
        for batch in data.batches(batch_size(data.shape, 1, device), device):
            z = front.polarized(batch.x).flatten(1)
            counts += _counted(z).cpu()
            shares.append(_shares(z, front.threshold, eps).cpu())
            bar.update(len(z))
    return counts.numpy(), torch.cat(shares, 1).numpy()


def _counted(z: Tensor) -> Tensor:
    """How many values lie in each bin; whole numbers, unlike torch.histc, whose float32 counts stop at 2^24."""
    place = ((z + 1) * (BINS / 2)).long().clamp_(0, BINS - 1)
    return torch.bincount(place.flatten(), minlength=BINS)


def _shares(z: Tensor, threshold: float, eps: float) -> Tensor:
    size = z.abs()
    kinds = ((size - threshold).abs() < eps, size < 0.1, size > 0.8)
    return torch.stack([kind.double().mean(1) for kind in kinds])


def _dataset(fronts: Mapping[str, TernaryFrontEnd], counts: np.ndarray, shares: np.ndarray, eps: float) -> xr.Dataset:
    density = counts / counts.sum(1, keepdims=True) * (BINS / 2)
    found = {"density": variable("stage bin", density, "density of filter outputs", "1", "of integral 1")}
    for place, (name, meaning) in enumerate(SHARES.items()):
        values = shares[:, place]
        found[name] = variable("stage", values.mean(1), f"{name} mass", "1", meaning)
        found[f"{name}_interval"] = variable(
            "stage bound",
            bootstrap_interval(values),
            f"95 % interval of {name} mass",
            "1",
            "bootstrap over images",
        )
    thresholds = np.array([front.threshold for front in fronts.values()])
    found["threshold"] = variable("stage", thresholds, "threshold", "1", "c of the quantiser: it cuts at -c and c")
    centres = -1 + (np.arange(BINS) + 0.5) * 2 / BINS
    coords = {"stage": list(fronts), "bin": centres, "bound": ["low", "high"]}
    return xr.Dataset(found | _filters(fronts), coords, {"eps": eps, "title": "polarization of a front end"})


def _filters(fronts: Mapping[str, TernaryFrontEnd]) -> dict[str, xr.Variable]:
    learnt = [front.filters.weight.detach().cpu() for front in fronts.values() if isinstance(front, PolarizingFrontEnd)]
    if len(learnt) < len(fronts) or len({w.shape for w in learnt}) > 1:
        return {}
    weights = torch.stack(learnt).double()
    flat = weights.flatten(2)
    flatness = (flat.abs().sum(2) / flat.norm(dim=2)) ** 2
    dims = "stage filter channel row column"
    return {
        "weight": variable(dims, weights.numpy(), "filter weight", "1", "as learnt; only its direction matters"),
        "flatness": variable(
            "stage filter", flatness.numpy(), "squared norm ratio", "1", "(||w||_1 / ||w||_2)^2, 1 for one pixel"
        ),
    }
