"""What an attack climbs: a loss of the logits, towards a wrong class or away from the right one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.outputs import logits_of, widened

CONFIDENCE = 50.0  # kappa of the margin loss: the hinge is flat only once an image is wrong by 50 logits


def cross_entropy(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """-log softmax(z)_y, (N, K) -> (N,): grows as an attack succeeds; its negative when y is the target."""
    loss = F.cross_entropy(logits, labels, reduction="none")
    return -loss if targeted else loss


def margin(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """-max(z_y - max_{j != y} z_j + kappa, 0), (N, K) -> (N,); the other sign inside if y is the target.

    Carlini and Wagner, S&P 2017, f_6, with kappa = 50 as in the PGD form of Madry et al., ICLR 2018.
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    other = logits.scatter(1, labels[:, None], -torch.inf).max(1).values
    lead = other - own if targeted else own - other
    return -F.relu(lead + CONFIDENCE)


LOSSES: dict[str, Callable[[Tensor, Tensor, bool], Tensor]] = {"ce": cross_entropy, "cw": margin}


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
        object.__setattr__(self, "_range", (int(self.labels.min()), int(self.labels.max())))

    def value(self, logits: Tensor) -> Tensor:
        """The number an attack makes larger, one an image.

        In float64: the float32 softmax of a confident network rounds to 1 and its gradient to 0.
        """
        if len(logits) != len(self.labels):
            raise NetprobeError(f"{len(self.labels)} labels for {len(logits)} images")
        low, high = self._range
        if low < 0 or high >= logits.shape[1]:
            raise NetprobeError(
                f"labels or targets go from {low} to {high}, but the model has {logits.shape[1]} classes"
            )
        return LOSSES[self.loss](widened(logits), self.labels, self.targeted)

    def reached(self, logits: Tensor) -> Tensor:
        """Which images are fooled: predicted as anything but the label; as the target, when targeted."""
        return (logits.argmax(1) == self.labels) == self.targeted

    def select(self, rows: Tensor) -> Goal:
        return dataclasses.replace(self, labels=self.labels[rows])


def input_gradient(model: nn.Module, x: Tensor, goal: Goal, passes: int = 1) -> Tensor:
    """The gradient with respect to x of the goal's value, averaged over `passes` forward passes (EOT).

    The values are summed over images, so that the gradient of an image does not depend on the batch. Only x
    gets a gradient; every pass frees its graph before the next.
    """
    x = x.detach().requires_grad_()
    gradient = sum(_one_gradient(model, x, goal) for _ in range(passes)) / passes
    if not gradient.isfinite().all():
        bad = (~gradient.flatten(1).isfinite().all(1)).sum().item()
        raise NetprobeError(
            f"the input gradient of {bad} of {len(x)} images is not finite: check the model's outputs there"
        )
    return gradient


def _one_gradient(model: nn.Module, x: Tensor, goal: Goal) -> Tensor:
    logits = logits_of(model(x.clone()), len(x))  # a copy: some models write into their input
    if not logits.requires_grad:
        raise NetprobeError(
            "the model's logits have no gradient with respect to its input: "
            "look for no_grad, detach, argmax or numpy in its forward"
        )
    return torch.autograd.grad(goal.value(logits).sum(), x)[0]


@torch.no_grad()
def predict(model: nn.Module, x: Tensor, passes: int = 1) -> Tensor:
    """The logits at x, averaged over `passes` forward passes."""
    return sum(logits_of(model(x.clone()), len(x)) for _ in range(passes)) / passes
