"""The training loop: natural, or adversarial when it is given an attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.errors import NetprobeError
from netprobe.outputs import logits_of
from netprobe.perturb import ImageGenerator, apply


@dataclass(frozen=True)
class TrainSettings:
    """SGD with momentum 0.9 and a one-cycle learning rate that peaks at `lr` after a fifth of the steps."""

    epochs: int = 30
    batch_size: int = 64
    lr: float = 0.1
    weight_decay: float = 5e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr"):
            if getattr(self, name) <= 0:
                raise NetprobeError(f"{name}={getattr(self, name)} must be above 0")


def fit(
    model: nn.Module,
    data: Data,
    settings: TrainSettings | None = None,
    *,
    attack: Callable[..., Tensor] | None = None,
    name: str = "train",
    progress: bool = True,
) -> nn.Module:
    """Train `model` in place on `data`, on the device it is on; returned in eval mode.

        natural       minimise CE(f(x), y)
        adversarial   minimise CE(f(x'), y) on x' = attack(f, x, y) alone (Madry et al. 2018)

    Attacks are crafted in eval mode, with running batch-norm statistics, and the weights updated in train mode. The
    order of the images and every random start follow from `settings.seed`: same seed, same weights on a CPU. Batches of
    a single image are left out (batch norm cannot normalise them).
    """
    settings = settings or TrainSettings()
    device = next(model.parameters()).device
    inputs, labels = data.inputs.to(device), data.labels.to(device)
    shuffle = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.SGD(model.parameters(), settings.lr, momentum=0.9, weight_decay=settings.weight_decay)
    steps = settings.epochs * -(-len(data) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps, pct_start=0.2)
    with tqdm(total=settings.epochs, desc=name, unit="epoch", disable=not progress) as bar:
        for epoch in range(settings.epochs):
            losses = []
            for chosen in torch.randperm(len(data), generator=shuffle).split(settings.batch_size):
                x, y = inputs[chosen.to(device)], labels[chosen.to(device)]
                if attack is not None:
                    generator = ImageGenerator(settings.seed, chosen + epoch * len(data))  # fresh starts every epoch
                    x = apply(attack, model.eval(), x, y, generator=generator)
                if len(x) > 1:
                    losses.append(_step(model.train(), x, y, optimizer))
                schedule.step()
            bar.set_postfix(loss=f"{torch.stack(losses).mean():.3f}")
            bar.update()
    return model.eval()


def _step(model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    loss = cross_entropy(logits_of(model(x), len(x)), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()
