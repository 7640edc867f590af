"""What a training step minimises, as one module: so that it can be distributed or compiled whatever the defense is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from netprobe.defenses import Defense
from netprobe.processes import Processes
from netprobe.training.regularising import Regularisation
from netprobe.training.synced import synced


class Objective(nn.Module):
    """(x, y) -> the terms of the defense's loss for `model`, and those of its regularisers."""

    def __init__(
        self, defense: Defense, model: nn.Module, regularisation: Regularisation, together: Processes, compile: bool
    ) -> None:
        super().__init__()
        self.model, self.regularisation = model, regularisation
        self._defense, self._together = defense, together
        self._forward = [torch.compile(model) if compile else model]  # in a list: the same parameters, once

    def forward(
        self, x: Tensor, y: Tensor, generator: torch.Generator | None, copy: list[nn.Module]
    ) -> dict[str, Tensor]:
        """`copy` comes in a list, out of the sight of whoever moves tensors and modules to devices."""

        def loss() -> dict[str, Tensor]:
            return self._defense.loss(self._forward[0], x, y, generator=generator, copy=copy[0])

        with synced(self.model, self._together):
            return self.regularisation.joined(loss, self.model, generator, self._together)


def distributed(objective: Objective, together: Processes, device: torch.device) -> nn.Module:
    """`objective`, its gradients averaged over all processes; as it is if there is one, or nothing to learn."""
    if together.local or not any(p.requires_grad for p in objective.parameters()):
        return objective
    devices = [device.index] if device.type == "cuda" else None
    alike = [name for name, _ in objective.named_buffers() if name.startswith("regularisation.")]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, alike)  # need not be sent every step
    return DistributedDataParallel(objective, device_ids=devices)
