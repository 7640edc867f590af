"""What an attack climbs: a loss of the logits, towards a wrong class or away from the right one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.outputs import logits_of, widened
from netprobe.perturb.geometry import unit
from netprobe.perturb.randomness import uniform

SMALL = 1e-12  # keeps the ratio finite when the largest logits are equal
LARGE = 50.0  # log(1 + exp(m)) is m from here on, to the last bit even in float64
CONFIDENCE = 50.0  # kappa of the margin loss: the hinge is flat only once an image is wrong by 50 logits


def cross_entropy(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """-log softmax(z)_y, (N, K) -> (N,): grows as an attack succeeds; its negative when y is the target.

    As log(1 + exp(m)), m = log sum_{j != y} exp(z_j) - z_y: the gradient of the usual form has 1 - p_y in it, which
    rounds to 0 for a network that is sure by 37 logits even in float64, and attacks then go astray.
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    loss = F.softplus(logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1) - own, threshold=LARGE)
    return -loss if targeted else loss


def lead(logits: Tensor, y: Tensor) -> Tensor:
    """z_y - max_{j != y} z_j, (N, K) -> (N,): not above 0 where the model is fooled."""
    own = logits.gather(1, y[:, None]).squeeze(1)
    return own - logits.scatter(1, y[:, None], -torch.inf).max(1).values


def margin(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """-max(z_y - max_{j != y} z_j + kappa, 0), (N, K) -> (N,); the other sign inside if y is the target.

    Carlini and Wagner, S&P 2017, f_6, with kappa = 50 as in the PGD form of Madry et al., ICLR 2018.
    """
    ahead = lead(logits, labels)
    return -F.relu((-ahead if targeted else ahead) + CONFIDENCE)


def logits_ratio(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """Difference of logits ratio, (N, K >= 3) -> (N,): -(z_y - max_{j != y} z_j) / (z_(1) - z_(3)); minus it if y is
    the target. z_(k) is the k-th largest logit.

    It does not change when the logits are shifted or scaled, so that their scale cannot hide the gradient. Croce and
    Hein, ICML 2020, eq. 6.
    """
    largest = _largest(logits, 3)
    ahead = lead(logits, labels)
    return (ahead if targeted else -ahead) / (largest[:, 0] - largest[:, 2] + SMALL)


def targeted_logits_ratio(logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Targeted form, (N, K >= 4) -> (N,): -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2). Croce and Hein, eq. 7."""
    largest = _largest(logits, 4)
    own, other = (logits.gather(1, c[:, None]).squeeze(1) for c in (labels, targets))
    return -(own - other) / (largest[:, 0] - largest[:, 2:].mean(1) + SMALL)


def _largest(logits: Tensor, count: int) -> Tensor:
    if logits.shape[1] < count:
        raise NetprobeError(
            f"the difference of logits ratio compares {count} classes, but the model has {logits.shape[1]}: "
            "use the loss ce or cw"
        )
    return logits.topk(count, dim=1).values


LOSSES: dict[str, Callable[[Tensor, Tensor, bool], Tensor]] = {
    "ce": cross_entropy,
    "cw": margin,
    "dlr": logits_ratio,
}


@dataclass(frozen=True, eq=False)
class Goal:
    """Where an attack drives every image: away from `labels`, or to them when `targeted`."""

    labels: Tensor
    targeted: bool = False
    loss: str = "ce"

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.is_floating_point() or self.labels.dtype == torch.bool:
            raise NetprobeError(
                f"labels must be whole numbers of shape (N,), "
                f"not {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )
        object.__setattr__(self, "labels", self.labels.long())
        some = len(self.labels) > 0
        object.__setattr__(self, "_range", (int(self.labels.min()), int(self.labels.max())) if some else (0, 0))

    def value(self, logits: Tensor) -> Tensor:
        """The number an attack makes larger, one an image.

        In float64: the float32 softmax of a confident network rounds to 1 and its gradient to 0.
        """
        self.check(logits)
        return LOSSES[self.loss](widened(logits), self.labels, self.targeted)

    def check(self, logits: Tensor) -> None:
        """Refuse labels or targets that the model does not have."""
        if len(logits) != len(self.labels):
            raise NetprobeError(f"{len(self.labels)} labels for {len(logits)} images")
        low, high = self._range
        if low < 0 or high >= logits.shape[1]:
            raise NetprobeError(
                f"labels or targets go from {low} to {high}, but the model has {logits.shape[1]} classes"
            )

    def reached(self, logits: Tensor) -> Tensor:
        """Which images are fooled: predicted as anything but the label; as the target, when targeted."""
        return (logits.argmax(1) == self.labels) == self.targeted

    def select(self, rows: Tensor) -> Goal:
        return dataclasses.replace(self, labels=self.labels[rows])

    def joined(self, other: Goal) -> Goal:
        """This goal's images, then those of `other`, a goal of the same kind."""
        return dataclasses.replace(self, labels=torch.cat([self.labels, other.labels]))


@dataclass(frozen=True, eq=False)
class Escape(Goal):
    """Away from `truth` by way of the class `labels`, one column of `ways` (N, W), the wrong classes to try in turn.

    Any wrong class will do; the loss, the targeted difference of logits ratio, only aims at that one.
    """

    truth: Tensor | None = None
    ways: Tensor | None = None

    @classmethod
    def by_likeliest(cls, logits: Tensor, truth: Tensor, count: int) -> Escape:
        """By way of the `count` wrong classes of the largest logits, or of all if there are fewer."""
        Goal(truth).check(logits)
        wrong = logits.scatter(1, truth[:, None], -torch.inf)
        ways = wrong.argsort(dim=1, descending=True, stable=True)[:, : min(count, logits.shape[1] - 1)]
        return cls(ways[:, 0], truth=truth, ways=ways)

    def by(self, way: Tensor) -> Escape:
        """Every image by its way of that number."""
        return dataclasses.replace(self, labels=self.ways.gather(1, way[:, None]).squeeze(1))

    def value(self, logits: Tensor) -> Tensor:
        self.check(logits)
        return targeted_logits_ratio(widened(logits), self.labels, self.truth)

    def reached(self, logits: Tensor) -> Tensor:
        return logits.argmax(1) != self.truth

    def select(self, rows: Tensor) -> Escape:
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in ("labels", "truth", "ways")})

    def joined(self, other: Escape) -> Escape:
        names = ("labels", "truth", "ways")
        return dataclasses.replace(self, **{n: torch.cat([getattr(self, n), getattr(other, n)]) for n in names})


class Slope(NamedTuple):
    """What one or several forward and backward passes at x tell, averaged over them."""

    gradient: Tensor  # of the goal's value, shaped like x
    value: Tensor  # (N,) float64
    logits: Tensor  # (N, K)

    def select(self, rows: Tensor) -> Slope:
        """Those of some images."""
        return Slope(*(part[rows] for part in self))


def slope(
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    passes: int = 1,
    normalised: bool = False,
    spread: float = 0.0,
    generator: torch.Generator | None = None,
    check: bool = True,
) -> Slope:
    """The gradient with respect to x of the goal's value, averaged over `passes` forward passes (EOT), with the values.

    `normalised` divides the gradient of every pass by its L2 norm per image before averaging, so that passes of small
    gradient count as much as others (Bakiskan 2022, section 4.2.4). With `spread` > 0 every pass is made at a point of
    its own, x + U[-spread, spread) drawn from `generator`, which smooths a rugged loss (appendix B.6 there); the values
    and logits are those of the points. The values are summed over images, so that the
    gradient of an image does not depend on the batch. Only x gets a gradient; every pass frees its graph before the
    next. A gradient that is not finite is an error; without `check` it is not looked
    at, for which the host would wait for the device.
    """
    x, total = x.detach(), None
    for _ in range(passes):
        point = x + spread * (2 * uniform(x, generator) - 1) if spread else x
        one = _one_slope(model, point.requires_grad_(), goal, normalised)
        total = one if total is None else Slope(*(a + b for a, b in zip(total, one, strict=True)))
    mean = Slope(*(part / passes for part in total)) if passes > 1 else total
    if check and not mean.gradient.isfinite().all():
        bad = (~mean.gradient.flatten(1).isfinite().all(1)).sum().item()
        raise NetprobeError(
            f"the input gradient of {bad} of {len(x)} images is not finite: check the model's outputs there"
        )
    return mean


def input_gradient(model: nn.Module, x: Tensor, goal: Goal, passes: int = 1) -> Tensor:
    """The gradient that `slope` finds."""
    return slope(model, x, goal, passes).gradient


def _one_slope(model: nn.Module, x: Tensor, goal: Goal, normalised: bool) -> Slope:
    logits = logits_of(model(x.clone()), len(x))  # a copy: some models write into their input
    if not logits.requires_grad:
        raise NetprobeError(
            "the model's logits have no gradient with respect to its input: "
            "look for no_grad, detach, argmax or numpy in its forward"
        )
    value = goal.value(logits)
    gradient = torch.autograd.grad(value.sum(), x)[0]
    return Slope(unit(gradient) if normalised else gradient, value.detach(), logits.detach())


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, passes: int = 1) -> Tensor:
    """The logits at x, averaged over `passes` forward passes."""
    return sum(logits_of(model(x.clone()), len(x)) for _ in range(passes)) / passes
