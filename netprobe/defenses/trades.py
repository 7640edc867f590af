"""TRADES: clean accuracy traded against the change of the output in the ball."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from netprobe.defenses.crafting import Crafting
from netprobe.fields import real, whole
from netprobe.outputs import logits_of, widened
from netprobe.perturb.frozen import frozen
from netprobe.perturb.geometry import GEOMETRIES
from netprobe.perturb.randomness import normal
from netprobe.recipes import CYCLIC, NAMED, Recipe, in_color

RECIPE = CYCLIC.with_settings(lr=0.01, schedule="step", milestones=(50,))
"""Two constant rates (Bakiskan 2022, appendix B.3)."""

START = 0.001
"""Standard deviation of the noise that the search starts from: at x itself the divergence has no gradient."""


@dataclass(frozen=True, kw_only=True, repr=False)
class TRADES(Crafting):
    """L = CE(f(x), y) + beta / B * sum_b KL(p(x_b) || p(x'_b)), p = softmax f.

        x'_0 = x + 0.001 n, n ~ N(0, I);  x'_{k+1} = clip(project(x'_k + step sign(gradient KL(p(x) || p(x'_k)))))

    The gradient of L flows through both arguments of the divergence. The network sees x, then x', in train mode (batch
    norm averages over both). beta = 1/lambda. Zhang et al., ICML 2019; with step eps / 8, 10 steps and beta 6 the
    settings of Bakiskan 2022, section 4.2.4. Linf only.
    """

    name: ClassVar[str] = "trades"
    title: ClassVar[str] = "TRADES"

    steps: int = field(default=10, metadata=whole(1, help="gradient steps of the training attack"))
    step_size: float | None = field(
        default=None, metadata=real(0, optional=True, help="length of a step; none: eps / 8")
    )
    beta: float = field(default=6.0, metadata=real(0, help="weight of the divergence"))

    def published(self, architecture: str, shape: tuple[int, ...]) -> Recipe | None:
        return RECIPE if in_color(shape) and architecture not in NAMED else None

    def loss(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator, copy: nn.Module
    ) -> dict[str, Tensor]:
        changed = self.farthest(model, x, generator, copy) if self.beta else x
        logits, there = (logits_of(model(part), len(x)) for part in (x, changed))
        clean = cross_entropy(logits, y)
        spread = divergence(logits, there).mean().to(clean.dtype)  # not that of logits, which may be a reduced one
        return {"loss": clean + self.beta * spread, "logits": logits, "clean_loss": clean, "divergence": spread}

    def farthest(self, model: nn.Module, x: Tensor, generator: torch.Generator, copy: nn.Module) -> Tensor:
        """The point of the ball that the search for the largest divergence ends at."""
        ball = GEOMETRIES[self.norm]
        step = self.eps / 8 if self.step_size is None else self.step_size
        changed = x + START * normal(x, generator)
        with self.victim(model, copy, x) as victim, frozen(victim):
            with torch.no_grad():
                here = logits_of(victim(x), len(x))
            for _ in range(self.steps):
                point = changed.detach().requires_grad_()
                spread = divergence(here, logits_of(victim(point), len(x))).sum()
                (gradient,) = torch.autograd.grad(spread, point)
                changed = self.box.clip(x + ball.project(changed + step * gradient.sign() - x, self.eps))
        return changed.detach()


def divergence(logits: Tensor, other: Tensor) -> Tensor:
    """KL(softmax(logits) || softmax(other)) >= 0 of every row, (B, K) -> (B,), in float64 where there is float64."""
    p, q = (widened(part).log_softmax(1) for part in (logits, other))
    return kl_div(q, p, reduction="none", log_target=True).sum(1)
