"""How activations settle: energies, residual and read-out, step by step."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.data import Batch, Data
from netprobe.defenses.sca.bound import curvature
from netprobe.defenses.sca.conversion import self_consistent
from netprobe.defenses.sca.layers import SelfConsistent
from netprobe.defenses.sca.shown import Perturbations, at_steps, putting_out, shown
from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.metrics.base import interval, variable
from netprobe.outputs import logits_of, widened
from netprobe.uncertainty import bootstrap_interval, wilson_intervals

TRACED = {
    "energy": ("energy E", "1", "E_lat + lam E_rec, mean over images"),
    "lateral": ("lateral energy", "1", "E_lat = 1/2 ||a - g(a)||^2, mean over images"),
    "reconstruction": ("reconstruction energy", "1", "lam E_rec = lam/2 ||x - (V a + v)||^2, mean over images"),
    "residual": ("relative residual", "1", "||a - g(a)|| / ||a||, mean over images with a unit above 0"),
    "capped": ("updates shortened", "1", "share of the updates that led to this step that the cap shortened"),
    "probability": ("probability of the true class", "1", "softmax of the logits read out after this step"),
    "accuracy": ("accuracy", "1", "share of right predictions, read out after this step"),
}


def settling(
    model: nn.Module,
    data: Data,
    perturbations: Perturbations | None = None,
    *,
    steps: int | None = None,
    layer: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """What the steps of a self-consistent layer do, for clean images and for perturbed ones.

    Parameters
    ----------
    model : a network with such a layer; left as found.
    perturbations : specs or callables by name, made for the network as it is, with its own T.
    steps : how far to follow the activations; None: twice T, to see whether they have settled.
    layer : which layer; None: the first.

    Returns a Dataset over (condition, step), step = 0, ..., each with its 95 % interval over images: `energy`,
    `lateral`, `reconstruction` (of an image the sum over its rows), `residual` (NaN where a is 0), `capped`, and
    `accuracy` and `probability` of the true class where the rest of the network reads the activations of that step
    instead of the last's. Attributes: T (`steps`), `eta`, `curvature` L, `largest_safe_step` 2 / L, `layer`.

    While eta is below 2 / L and nothing is capped, E falls with every step; E_lat need not.

    Cost: `steps` steps and as many passes of what comes after the layer, an image and condition.
    """
    name, settled = self_consistent(model, layer)
    reach = 2 * settled.steps if steps is None else steps
    if reach < 0:
        raise NetprobeError(f"steps={steps}: give 0 or more")
    found: dict[str, list[np.ndarray]] = {}
    total = len(data) * (1 + len(perturbations or {}))
    with tqdm(total=total, desc="settling", unit="image", disable=not progress) as bar, undisturbed(model):
        for condition, batch in shown(model, data, perturbations, seed, bar):
            found.setdefault(condition, []).append(_traced(model, settled, batch, reach))
    values = np.stack([np.concatenate(parts, -1) for parts in found.values()], 1)
    return _dataset(values, list(found), settled, name)


@torch.no_grad()
def _traced(model: nn.Module, layer: SelfConsistent, batch: Batch, steps: int) -> np.ndarray:
    """Every quantity of `TRACED` (quantity, step, image)."""
    x = entering(model, layer, batch.x)
    inputs, _ = layer.rows(x)
    rows = [
        torch.stack([*_of_layer(layer, inputs, a, capped, len(batch.x)), *_read_out(model, layer, a, x, batch)], 0)
        for a, capped in layer.trajectory(x, steps)
    ]
    return torch.stack(rows, 1).cpu().numpy()


def entering(model: nn.Module, layer: SelfConsistent, x: Tensor) -> Tensor:
    """What enters `layer` when the network is given x."""
    met: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: met.append(args[0]))
    try:
        with at_steps(layer, 0):
            model(x)
    finally:
        hook.remove()
    if len(met) != 1:
        raise NetprobeError(f"the self-consistent layer ran {len(met)} times in a pass: its steps are not one story")
    return met[0]


def _of_layer(layer: SelfConsistent, x: Tensor, a: Tensor, capped: Tensor, images: int) -> list[Tensor]:
    """Energies, residual and cap of every image, (image,) each."""
    energies = {name: widened(each).view(images, -1).sum(1) for name, each in layer.energies(x, a).items()}
    size = widened(a).view(images, -1).norm(dim=1)
    residual = (2 * energies["lateral"]).sqrt() / torch.where(size > 0, size, torch.nan)
    return [*energies.values(), residual, widened(capped).view(images, -1).mean(1)]


def _read_out(model: nn.Module, layer: SelfConsistent, a: Tensor, x: Tensor, batch: Batch) -> list[Tensor]:
    """The probability of the true class, and whether the prediction is right, (image,) each."""
    with at_steps(layer, 0), putting_out(layer, layer.joined(a, x)):
        logits = widened(logits_of(model(batch.x), len(batch.x)))
    return [logits.softmax(1).gather(1, batch.y[:, None])[:, 0], (logits.argmax(1) == batch.y).to(logits)]


def _dataset(values: np.ndarray, conditions: list[str], layer: SelfConsistent, name: str) -> xr.Dataset:
    """From values (quantity, condition, step, image)."""
    found: dict[str, xr.Variable] = {}
    for quantity, (label, unit, definition), each in zip(TRACED, TRACED.values(), values, strict=True):
        known = np.isfinite(each)
        with np.errstate(invalid="ignore"):
            mean = np.where(known, each, 0).sum(-1) / known.sum(-1)
        found[quantity] = variable("condition step", mean, label, unit, definition)
        if quantity == "accuracy":
            bounds, how = wilson_intervals(each.sum(-1), each.shape[-1]), "Wilson score interval"
        else:
            bounds, how = bootstrap_interval(each), "bootstrap over images"
        found[f"{quantity}_interval"] = interval("condition step", bounds, found[quantity], how)
    bound = curvature(layer)
    about = {"steps": layer.steps, "eta": layer.eta, "curvature": bound, "largest_safe_step": 2 / bound, "layer": name}
    coords = {"condition": conditions, "step": np.arange(values.shape[2]), "bound": ["low", "high"]}
    return xr.Dataset(found, coords, {"title": "how activations settle", **about})
