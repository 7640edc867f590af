"""Attacks that see decisions only: the boundary attack and HopSkipJump, through foolbox."""

from __future__ import annotations

import copy
import dataclasses
import functools
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.fields import choice, real, whole
from netprobe.perturb.attacked import Attacked
from netprobe.perturb.frozen import frozen
from netprobe.perturb.libraries import UnitBox, library_seed, needed
from netprobe.perturb.minimum_norm import FoolboxAttack, run
from netprobe.perturb.objective import predict
from netprobe.perturb.randomness import ImageGenerator, normal, select, uniform
from netprobe.perturb.standing import predict_all
from netprobe.perturb.start_points import Classify, Starts, blended_noise, nearest

STARTS = ("noise", "nearest")
CLASSES = ("label", "prediction")
QUERIES = 256
"""Decisions asked for in one forward pass."""


@dataclass(frozen=True, kw_only=True, repr=False)
class DecisionAttack(FoolboxAttack):
    """Walk along the decision boundary towards the image, from a start that the model gets wrong.

    start="noise": the image blended with uniform noise until its class changes. start="nearest": the nearest image
    that the model classifies as something else, out of those given by `with_pool`. An image without a start is a
    failure. `forwards` counts decisions, those for the start included; of a pool every image bears its share.

    away_from="label": images that the model gets wrong are left as they are. away_from="prediction": every image is
    carried away from what the model says of it, right or wrong, since who sees decisions alone knows no label; the
    attack has fooled the model where its class has changed.
    """

    start: str = field(default="noise", metadata=choice(STARTS, help="where to begin"))
    away_from: str = field(default="label", metadata=choice(CLASSES, help="the class that is to change"))

    def with_pool(self, pool: object) -> DecisionAttack:
        """A copy that takes its starts from `pool`: (M, ...) images, or data that has them as `inputs`.

        The pool is no setting: specs and JSON do not tell of it.
        """
        attack = copy.copy(self)
        object.__setattr__(attack, "_pool", getattr(pool, "inputs", pool))
        return attack

    def fool(
        self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None, **settings: object
    ) -> Attacked:
        """As of every attack (`StandingAttack.fool`), away from the class of `away_from`."""
        if self.away_from == "label":
            return super().fool(model, x, y, generator=generator, **settings)
        self.check_inputs(x)
        with frozen(model):
            said = predict_all(model, x, settings.get("slots") or len(x)).argmax(1)
        found = super().fool(model, x, said, generator=generator, **settings)
        return dataclasses.replace(found, forwards=found.forwards + 1)

    @abstractmethod
    def walk(
        self,
        foolbox: ModuleType,
        surrogate: UnitBox,
        u: Tensor,
        y: Tensor,
        points: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """What becomes of the starting `points` of images `u`."""

    def closest(self, surrogate: UnitBox, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        foolbox, u = needed("foolbox", self.title), surrogate.inner(x)
        starts = self._starts(surrogate, u, y, generator)
        rows, found = starts.found.nonzero().squeeze(1), u.clone()
        if len(rows):
            found[rows] = self.walk(foolbox, surrogate, u[rows], y[rows], starts.points[rows], select(generator, rows))
        return found

    def _starts(self, surrogate: UnitBox, u: Tensor, y: Tensor, generator: torch.Generator | None) -> Starts:
        if self.start == "noise":
            return blended_noise(classifier(surrogate), u, y, generator)
        pool = getattr(self, "_pool", None)
        if pool is None:
            raise NetprobeError(
                f"{self.name}:start=nearest begins at the nearest image that is classified differently: give it images "
                "to look among by .with_pool(data), or use start=noise"
            )
        if pool.shape[1:] != u.shape[1:]:
            raise NetprobeError(f"the pool has images of shape {tuple(pool.shape[1:])}, not {tuple(u.shape[1:])}")
        self.check_inputs(pool)
        return nearest(classifier(surrogate), u, y, surrogate.inner(pool.to(u.device)))


def classifier(surrogate: UnitBox) -> Classify:
    """The classes that `surrogate` predicts, for any number of images."""
    return lambda u: torch.cat([predict(surrogate, part).argmax(1) for part in u.split(QUERIES)])


@dataclass(frozen=True, kw_only=True, repr=False)
class Boundary(DecisionAttack):
    """Boundary attack: random steps at equal distance from the image, then towards it; keep those that still fool.

    Step sizes follow how often steps succeed. The random directions are the same for every image, so that an image
    does not notice its batch, with an `ImageGenerator`. Brendel et al., ICLR 2018; foolbox's version, without the
    check of convergence.

    Cost: about 1.1 decisions a step, until every image of the batch has converged. Few steps measure the start: a
    converged norm takes thousands.
    """

    name: ClassVar[str] = "boundary"
    title: ClassVar[str] = "Boundary"

    norm: str = field(default="l2", kw_only=False, metadata=choice(("l2",), help="norm to make small"))
    steps: int = field(default=25_000, metadata=whole(1, help="steps at most"))
    spherical_step: float = field(default=0.01, metadata=real(0, help="first step at equal distance, relative to it"))
    source_step: float = field(default=0.01, metadata=real(0, help="first step towards the image, likewise"))
    step_adaptation: float = field(default=1.5, metadata=real(1, help="factor by which steps grow and shrink"))

    def library_attack(self, foolbox: ModuleType) -> object:
        return foolbox.attacks.BoundaryAttack(
            steps=self.steps,
            spherical_step=self.spherical_step,
            source_step=self.source_step,
            step_adaptation=self.step_adaptation,
        )

    def walk(
        self,
        foolbox: ModuleType,
        surrogate: UnitBox,
        u: Tensor,
        y: Tensor,
        points: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        seed = generator.seed_ if isinstance(generator, ImageGenerator) else library_seed(generator)
        with torch.random.fork_rng([u.device] if u.is_cuda else []):
            torch.manual_seed(seed)
            return run(foolbox, self.library_attack(foolbox), surrogate, u, y, starting_points=points)


@dataclass(frozen=True, kw_only=True, repr=False)
class HopSkipJump(DecisionAttack):
    """HopSkipJump: estimate the boundary's normal from decisions around a point on it, step, and return by bisection.

        g = mean_b (phi_b - mean phi) v_b, phi_b = +-1 as x + delta v_b fools or not, v_b random of length 1

    `initial_queries` sqrt(t) decisions in step t, at most `max_queries`. An image does not notice its batch.

    Chen et al., S&P 2020; foolbox's loop for an image at a time, with our estimate of g: foolbox 3.3.4 divides it by
    its norm over the whole batch, which shortens the steps of every image in a batch of several; ours asks for the
    decisions around an image in one forward pass. Cost: about 34 000 decisions an image at the default settings.
    """

    name: ClassVar[str] = "hopskipjump"
    title: ClassVar[str] = "HopSkipJump"

    norm: str = field(default="l2", kw_only=False, metadata=choice(("l2", "linf"), help="norm to make small"))
    steps: int = field(default=64, metadata=whole(1, help="steps"))
    initial_queries: int = field(default=100, metadata=whole(1, help="decisions for the first estimate"))
    max_queries: int = field(default=10_000, metadata=whole(1, help="decisions for an estimate at most"))
    gamma: float = field(default=1.0, metadata=real(0, help="precision of the bisection, gamma / d^1.5 (l2)"))

    def library_attack(self, foolbox: ModuleType) -> object:
        return _hop_skip_jump()(
            steps=self.steps,
            initial_gradient_eval_steps=self.initial_queries,
            max_gradient_eval_steps=self.max_queries,
            gamma=self.gamma,
            constraint=self.norm,
        )

    def walk(
        self,
        foolbox: ModuleType,
        surrogate: UnitBox,
        u: Tensor,
        y: Tensor,
        points: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        found = []
        for row in torch.arange(len(u), device=u.device).split(1):
            attack = self.library_attack(foolbox)
            attack.ask = functools.partial(_fools, classifier(surrogate), y[row])
            attack.draws = torch.Generator().manual_seed(library_seed(select(generator, row)))
            found.append(run(foolbox, attack, surrogate, u[row], y[row], starting_points=points[row]))
        return torch.cat(found)


def _fools(classify: Classify, y: Tensor, u: Tensor) -> Tensor:
    return classify(u) != y


@functools.cache
def _hop_skip_jump() -> type:
    """Foolbox's attack on one image, with an estimate of the normal that asks for all its decisions at once."""

    class OneImage(needed("foolbox", HopSkipJump.title).attacks.HopSkipJumpAttack):
        ask: Callable[[Tensor], Tensor]
        draws: torch.Generator

        def approximate_gradients(self, is_adversarial, x_advs, steps, delta):
            here, radius = x_advs.raw, delta.raw
            like = here.expand(steps, *here.shape[1:])
            sphere = normal(like, self.draws) if self.constraint == "l2" else 2 * uniform(like, self.draws) - 1
            sphere = sphere / sphere.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *[1] * (like.ndim - 1))
            around = (here + radius * sphere).clamp(0, 1)
            decision = torch.where(self.ask(around), 1.0, -1.0)
            weight = decision if decision.mean().abs() == 1 else decision - decision.mean()
            estimate = torch.einsum("b,b...->...", weight, (around - here) / (radius + 1e-8))[None]
            return type(x_advs)(estimate / (estimate.norm() + 1e-12))

    return OneImage
