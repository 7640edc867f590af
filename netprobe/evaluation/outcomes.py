"""What became of some images under one condition: the numbers of a unit of work, image by image."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netprobe.devices import seed_everywhere
from netprobe.errors import NetprobeError
from netprobe.evaluation.conditions import Condition
from netprobe.fourier.spectra import FourierSpectrum
from netprobe.outputs import logits_of, widened
from netprobe.perturb.attack import attack
from netprobe.perturb.attacked import Attacked
from netprobe.perturb.frozen import frozen
from netprobe.perturb.objective import lead, predict
from netprobe.perturb.randomness import ImageGenerator

BLANKS: dict[str, float | int] = {
    "prediction": -1,
    "fooled": -1,
    "loss": np.nan,
    "margin": np.nan,
    "size_linf": np.nan,
    "size_l2": np.nan,
    "size_l1": np.nan,
    "size_l0": np.nan,
    "lowest": np.nan,
    "highest": np.nan,
    "forwards": -1,
    "backwards": -1,
    "broken_by": -1,
    "gradient_norm": np.nan,
    "margin_gradient_norm": np.nan,
}
"""The numbers of an image, and what stands for one that was not evaluated."""


@dataclass(frozen=True)
class Outcome:
    """The numbers of BLANKS for some images, each (n,), and the seconds that they took together.

    `spectrum` is that of the perturbations, where it was asked for.
    """

    values: dict[str, np.ndarray]
    seconds: float
    spectrum: FourierSpectrum | None = None


def evaluated(
    condition: Condition,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    images: Tensor,
    *,
    seed: int,
    batch_size: int,
    gradients: torch.dtype | None = None,
    spectra: bool = False,
    advance_bar: Callable[[int], object] = lambda images: None,
) -> Outcome:
    """Show `model` the images `x` (n, ...) with labels `y` and data-set positions `images` under `condition`.

    Whatever the attack itself says, the verdict is that of `model` on its result. Gradient norms are measured on clean
    images alone. Everything random is drawn from `seed`, per image where the perturbation can.
    """
    began = time.perf_counter()
    seed_everywhere((seed + int(images[0])) % 2**63)  # for models and callables that draw from the global state
    attacked = _attacked(condition, model, x, y, ImageGenerator(seed, images), batch_size, gradients, advance_bar)
    parts = [_judged(model, *rows) for rows in zip(*(t.split(batch_size) for t in (x, attacked.x, y)), strict=True)]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    values |= {name: getattr(attacked, name).cpu().numpy() for name in ("fooled", "forwards", "backwards")}
    if attacked.broken_by is not None:
        values["broken_by"] = attacked.broken_by.cpu().numpy()
    values |= _gradients(model, x, y, batch_size) if condition.perturbation is None else {}
    filled = {k: _typed(values.get(k, np.full(len(x), blank)), blank) for k, blank in BLANKS.items()}
    spectrum = _spectrum(x, attacked.x, images, batch_size) if spectra else None
    return Outcome(filled, time.perf_counter() - began, spectrum)


def _spectrum(x: Tensor, changed: Tensor, images: Tensor, batch_size: int) -> FourierSpectrum:
    found = FourierSpectrum()
    for clean, other, index in zip(*(each.split(batch_size) for each in (x, changed, images)), strict=True):
        found.update(widened(other) - widened(clean), index)
    return found


def _typed(values: np.ndarray, like: float | int) -> np.ndarray:
    return values.astype(np.int64 if isinstance(like, int) else np.float64)


def _attacked(
    condition: Condition, model: nn.Module, x: Tensor, y: Tensor, generator: ImageGenerator, slots: int, gradients, bar
) -> Attacked:
    if condition.perturbation is None:
        nothing = torch.zeros_like(y)
        bar(len(x))
        return Attacked(x, nothing.bool(), nothing, nothing)
    return attack(
        condition.perturbation, model, x, y, generator=generator, slots=slots, gradients=gradients, advance_bar=bar
    )


def _judged(model: nn.Module, x: Tensor, changed: Tensor, y: Tensor) -> dict[str, np.ndarray]:
    with frozen(model):
        logits = widened(predict(model, changed))
    if y.max() >= logits.shape[1]:
        raise NetprobeError(f"labels go up to {int(y.max())}, but the model has {logits.shape[1]} classes")
    delta, flat = widened(changed).flatten(1) - widened(x).flatten(1), changed.flatten(1)
    found = {
        "prediction": logits.argmax(1),
        "loss": F.cross_entropy(logits, y, reduction="none"),
        "margin": lead(logits, y),
        "size_linf": delta.abs().amax(1),
        "size_l2": delta.norm(dim=1),
        "size_l1": delta.abs().sum(1),
        "size_l0": (delta != 0).sum(1),
        "lowest": flat.amin(1),
        "highest": flat.amax(1),
    }
    return {name: value.cpu().numpy() for name, value in found.items()}


def _gradients(model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> dict[str, np.ndarray]:
    """L2 norms of the input gradients of the cross-entropy and of the margin; NaN where there is no gradient at all."""
    pairs = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
    norms = [torch.cat([_gradient_norms(model, *pair, value) for pair in pairs]) for value in (_entropy, lead)]
    return dict(zip(("gradient_norm", "margin_gradient_norm"), (n.cpu().numpy() for n in norms), strict=True))


def _entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(widened(logits), y, reduction="none")


def _gradient_norms(model: nn.Module, x: Tensor, y: Tensor, value: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    x = x.detach().clone().requires_grad_()
    with frozen(model):
        logits = logits_of(model(x * 1), len(x))  # x * 1: a model may write into its input
        if not logits.requires_grad:
            return widened(torch.full_like(y, torch.nan, dtype=torch.float32))
        (gradient,) = torch.autograd.grad(value(logits, y).sum(), x, allow_unused=True)
    return widened(torch.zeros_like(x) if gradient is None else gradient).flatten(1).norm(dim=1)
