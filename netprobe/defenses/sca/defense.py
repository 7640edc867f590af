"""Training with a self-consistent layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import xarray as xr
from torch import Tensor, nn

from netprobe.data import Data
from netprobe.defenses.base import Defense
from netprobe.defenses.natural import entropy
from netprobe.defenses.sca.bound import curvature
from netprobe.defenses.sca.conversion import convert, self_consistent
from netprobe.defenses.sca.settling import settling
from netprobe.defenses.sca.views import lateral_map
from netprobe.fields import choice, real, switch, whole, word
from netprobe.perturb.gradient import PGD
from netprobe.recipes import Recipe

WARM_UPS = ("constant", "geometric", "linear")
PUBLISHED = Recipe(
    epochs=100,
    batch_size=256,
    optimizer="adam",
    lr=1e-3,
    weight_decay=5e-5,
    schedule="plateau",
    gamma=0.5,
    plateau_patience=5,
    criterion="loss",
    patience=20,
    validation=1 / 6,
)
"""The recipe of the public code; 10,000 of the 60,000 images of MNIST are held out."""
VIEWED = 200
"""Images that a report's views are made of."""
VIEWED_EPS = {"image": 0.1, "waveform": 2.5e-4}


@dataclass(frozen=True, kw_only=True, repr=False)
class SCADefense(Defense):
    """L = CE(f(x), y), one hidden layer of f being self-consistent (`SelfConsistent`): C and V learn through its steps.

    Clean images alone; what robustness there is must come from the layer. Its controls: `steps=0`, the same network
    without the steps, which is the plain one (with its dropout) bit for bit; and an MLP of as many parameters that is
    trained naturally (`models.mlp`: hidden=2048,384,2048,2048, dropout=0.2), since "layer or no layer" is otherwise
    "more parameters or fewer".

    The history holds, beside the loss, `capped` (should be about 0: the cap hides divergence), and after every epoch
    `curvature` L and `largest_safe_step` 2 / L. Dropout comes after the layer: give the network none there.

    With a warm-up, train mode takes the step size eta_e in epoch e = 0, ..., E - 1 of the first E, eval mode eta:

        geometric   eta_e = eta_0 (eta / eta_0)^(e / E)       linear   eta_e = eta_0 + (eta - eta_0) e / E

    Shah and Raj, arXiv 2308.03956, whose tables have constant eta = 0.25, T = 16 and 2048 units.
    """

    name: ClassVar[str] = "sca"
    title: ClassVar[str] = "self-consistent activations"
    recorded: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "capped": ("updates shortened", "1", "share of the steps of training that the cap shortened; should be 0"),
        "curvature": ("bound of the curvature", "1", "(1 + ||C~||_2)^2 + lam ||V||_2^2, after the epoch"),
        "largest_safe_step": ("largest safe step", "1", "2 over the bound of the curvature; a conservative bound"),
    }

    steps: int = field(default=16, metadata=whole(0, help="T, how often activations move; 0: the plain network"))
    eta: float = field(default=0.25, metadata=real(0, help="step size on activations"))
    lam: float = field(default=0.3, metadata=real(0, help="weight of the reconstruction of the layer's input"))
    cap: float = field(default=10.0, metadata=real(0, inside=True, help="largest entry of an update"))
    dropout: float = field(default=0.2, metadata=real(0, 1, help="after the layer"))
    layer: str | None = field(
        default=None, metadata=word(help="the linear layer or convolution to convert; none: the first before a ReLU")
    )
    patch: int = field(default=1, metadata=whole(1, help="side of the patches of a convolution's outputs"))
    checkpoint: bool = field(default=False, metadata=switch(help="less memory for a quarter more time"))
    warm_up: str = field(default="constant", metadata=choice(WARM_UPS, help="how eta begins"))
    warm_up_from: float = field(default=0.01, metadata=real(0, inside=True, help="eta_0 of a warm-up"))
    warm_up_epochs: int = field(default=5, metadata=whole(1, help="E, epochs before eta is reached"))

    @property
    def draws(self) -> bool:
        return False

    def published(self, architecture: str, shape: tuple[int, ...]) -> Recipe:
        return PUBLISHED

    def build(self, model: nn.Module) -> nn.Module:
        """A copy, with one layer converted."""
        settings = {name: getattr(self, name) for name in ("steps", "eta", "lam", "cap", "dropout", "checkpoint")}
        return convert(model, self.layer, patch=self.patch, **settings)

    def begin_epoch(self, model: nn.Module, epoch: int, epochs: int) -> None:
        self_consistent(model)[1].warm(self.step_size(epoch))

    def step_size(self, epoch: int) -> float | None:
        """Of training in that epoch, from 0; None: eta."""
        done, start = epoch / self.warm_up_epochs, self.warm_up_from
        if self.warm_up == "constant" or done >= 1:
            return None
        return start * (self.eta / start) ** done if self.warm_up == "geometric" else start + (self.eta - start) * done

    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        found = entropy(model, x, y)
        return found | {"capped": self_consistent(model)[1].capped}

    def records(self, model: nn.Module) -> dict[str, float]:
        bound = curvature(self_consistent(model)[1])
        return {"curvature": bound, "largest_safe_step": 2 / bound}

    def views(self, stages: Mapping[str, nn.Module], data: Data) -> dict[str, xr.Dataset]:
        """How activations settle, clean and under a PGD-10 of a middling budget, past T; and C~."""
        (*_, model), some = stages.values(), data.take(min(VIEWED, len(data)))
        low = 0.0 if data.kind == "image" else -1.0
        attack = PGD(VIEWED_EPS[data.kind], steps=10, low=low)
        seen = settling(model, some, {"pgd": attack}, steps=2 * self.steps, progress=False)
        return {"settling": seen, "lateral": lateral_map(model)}
