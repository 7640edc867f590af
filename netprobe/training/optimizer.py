"""The optimiser of a recipe, over what is to be trained."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from netprobe.recipes import Recipe


def make_optimizer(recipe: Recipe, model: nn.Module) -> Optimizer | None:
    """Over the parameters that require a gradient, alone: frozen ones must not decay. None if there are none.

    The fused kernels update all parameters in one call; they round as the plain loop does, to the last bit or nearly.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        return None
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    if recipe.optimizer == "adam":
        betas = (recipe.momentum, 0.999)
        return Adam(parameters, recipe.lr, betas=betas, weight_decay=recipe.weight_decay, fused=fused)
    # A step that the scaler of float16 skips leaves the momentum of fused SGD unset, or changed (torch 2.15).
    fused = fused and recipe.precision != "float16"
    return SGD(parameters, recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=fused)


def set_rates(optimizer: Optimizer, lr: float, momentum: float) -> None:
    """Learning rate and momentum of the next step; in Adam momentum is the first beta."""
    for options in optimizer.param_groups:
        options["lr"] = lr
        if isinstance(optimizer, Adam):
            options["betas"] = (momentum, options["betas"][1])
        else:
            options["momentum"] = momentum


def scaler(recipe: Recipe, device: torch.device) -> torch.amp.GradScaler:
    """Scales losses so that float16 gradients do not vanish; does nothing in any other precision."""
    return torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
