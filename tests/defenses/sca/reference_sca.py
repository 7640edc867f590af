"""The self-consistent layer by its definition: the energy of one sample, and autograd for all derivatives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netprobe.defenses.sca import SCALinear


def dense(features: int = 7, units: int = 5, seed: int = 0, scale: float = 1.0, **settings) -> SCALinear:
    """A layer in float64, its weights `scale` times as large as drawn."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        layer = SCALinear(nn.Linear(features, units, dtype=torch.float64), **settings)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter *= scale
    return layer


def energy(layer: SCALinear, x: Tensor, a: Tensor) -> Tensor:
    """E(a; x) of one sample x (d,), a (n,)."""
    lateral = layer.lateral - torch.diag(layer.lateral.diagonal())
    predicted = torch.relu(lateral @ a + layer.lateral_bias)
    rebuilt = layer.feedback @ a + layer.feedback_bias
    return ((a - predicted) ** 2).sum() / 2 + layer.lam * ((x - rebuilt) ** 2).sum() / 2


def path(layer: SCALinear, x: Tensor, steps: int) -> list[Tensor]:
    """a_0, ..., a_T of one sample, with a graph through every step, in which the cap is a constant."""
    s = layer.weight @ x + layer.bias
    states = [torch.relu(s)]
    for _ in range(steps):
        a = states[-1]
        point = a if a.requires_grad else a.clone().requires_grad_()
        (u,) = torch.autograd.grad(energy(layer, x, point), point, create_graph=True)
        peak = float(u.detach().abs().max())
        k = min(1.0, layer.cap / peak) if peak else 1.0
        states.append(torch.relu(a - layer.eta * k * u))
    return states


def output(layer: SCALinear, x: Tensor) -> Tensor:
    """phi(s_T) of a batch, sample by sample."""
    return torch.stack([path(layer, each, layer.steps)[-1] for each in x])
