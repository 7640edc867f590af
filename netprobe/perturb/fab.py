"""FAB, the fast adaptive boundary attack, from the library pyautoattack (Croce and Hein, ICML 2020)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.fields import whole
from netprobe.perturb.attack_copy import attack_copy
from netprobe.perturb.attacked import Attacked, part_by_part
from netprobe.perturb.ball import InBall
from netprobe.perturb.geometry import per_image
from netprobe.perturb.libraries import UnitBox, library_seed, needed
from netprobe.perturb.objective import predict
from netprobe.perturb.randomness import select
from netprobe.perturb.standing import Progress, StandingAttack

NAMES = {"linf": "Linf", "l2": "L2", "l1": "L1"}


@dataclass(frozen=True, kw_only=True, repr=False)
class BoundaryProjection(InBall, StandingAttack):
    """Step to the linearised decision boundary again and again, with a pull towards the image.

        x_{k+1} = clip((1 - a)(x_k + 1.05 d) + a (x + 1.05 d'))

    d, d': the smallest steps in the norm from x_k and from x to the hyperplane where the linearised logits of two
    classes are equal, within the box; a <= 0.1 by their lengths. A point that fools the model is kept if none was
    nearer to x, and the search goes on from a tenth nearer. What is found is used if it is in the ball.

    The algorithm is the library's, in float32 on an `attack_copy`; verdicts are the model's. `forwards` and
    `backwards` are means over the images of a batch, rounded up.
    """

    steps: int = field(default=100, metadata=whole(1, help="projections"))
    restarts: int = field(default=1, metadata=whole(1, help="searches, all but the first from a random point"))

    follows_gradients: ClassVar[bool] = True
    targeted: ClassVar[bool] = False
    targets: ClassVar[int] = 9

    def assail(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        generator: torch.Generator | None,
        slots: int,
        gradients: torch.dtype | None,
        advance_bar: Progress,
    ) -> Attacked:
        needed("pyautoattack.fab_pt", self.title)
        surrogate = UnitBox(attack_copy(model, x[:8]), self.box, x.dtype)
        return part_by_part(
            lambda rows: self._batch(model, surrogate, x[rows], y[rows], select(generator, rows)), x, slots, advance_bar
        )

    def _batch(
        self, model: nn.Module, surrogate: UnitBox, x: Tensor, y: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, ...]:
        with torch.random.fork_rng([x.device] if x.is_cuda else []):
            classes = predict(surrogate, surrogate.inner(x[:1])).shape[1]
            found = self._search(surrogate, classes, generator).perturb(surrogate.inner(x), y)
        found = surrogate.moved(x, found)
        found = self.box.clip(x + self.geometry.project(found - x, self.eps))
        fooled = predict(model, found).argmax(1) != y
        forwards, backwards = surrogate.passes(y)
        return torch.where(per_image(fooled, x), found, x), fooled, forwards + 1, backwards

    def _search(self, surrogate: UnitBox, classes: int, generator: torch.Generator | None) -> object:
        """The library's attack."""
        return needed("pyautoattack.fab_pt", self.title).FABAttack_PT(
            surrogate,
            norm=NAMES[self.norm],
            n_restarts=self.restarts,
            n_iter=self.steps,
            eps=self.eps / surrogate.width,
            seed=library_seed(generator),
            targeted=self.targeted,
            n_target_classes=min(self.targets, classes - 1),
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class FAB(BoundaryProjection):
    """FAB towards whichever class is nearest: the gradients of all logits at every step.

    Croce and Hein, ICML 2020, "Minimally distorted adversarial examples". Random points of restarts are drawn for a
    batch as a whole: with `restarts` above 1 an image's result depends on its batch. Cost: restarts * steps times two
    forward passes and a backward pass a class.
    """

    name: ClassVar[str] = "fab"
    title: ClassVar[str] = "FAB"


@dataclass(frozen=True, kw_only=True, repr=False)
class TargetedFAB(BoundaryProjection):
    """FAB towards each of the `targets` likeliest wrong classes in turn, as AutoAttack uses it.

    Croce and Hein, ICML 2020. Random points of restarts are drawn for a batch as a whole: with `restarts` above 1 an
    image's result depends on its batch. Cost: targets * restarts * steps times two forward passes and a backward pass.
    """

    name: ClassVar[str] = "fab-t"
    title: ClassVar[str] = "FAB-T"

    targeted: ClassVar[bool] = True

    targets: int = field(default=9, metadata=whole(1, help="wrong classes to aim at, the likeliest first"))
