"""Ways from an image to its nearest error: perturbations of growing strength, all along one direction each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.fields import real, whole
from netprobe.perturb import BIM, FGSM, PGD, GaussianNoise, Perturbation, family, sweep
from netprobe.perturb.frozen import frozen
from netprobe.perturb.objective import Goal, input_gradient

POINTS = 100
WIDE = (1e-2, 20.0)
NARROW = (1e-4, 1.0)


@dataclass(frozen=True, kw_only=True, repr=False)
class CoarsePGD(BIM):
    """PGD as in arXiv 2405.00679: 20 steps of 0.01, or of 0.1 eps where eps is below 0.01, from the image itself, the
    box minded only after the last step. Deterministic, and weaker than PGD with restarts; for comparisons with theirs.
    """

    name: ClassVar[str] = "coarse-pgd"
    title: ClassVar[str] = "coarse PGD"

    steps: int = field(default=20, metadata=whole(1, help="gradient steps"))
    step_size: float | None = field(
        default=0.01, metadata=real(0, optional=True, help="length of a step where eps is no smaller")
    )

    @property
    def stride(self) -> float:
        return self.step_size if self.step_size is not None and self.eps >= self.step_size else 0.1 * self.eps

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator | None) -> Tensor:
        self.check_inputs(x)
        x = x.detach().clone()
        found = x
        with frozen(model, self.backward):
            for _ in range(self.steps if self.eps else 0):
                gradient = input_gradient(model, found, Goal(y, loss=self.loss), self.eot)
                step = self.stride * self.geometry.steepest(gradient, found, self.box)
                found = x + self.geometry.project(found + step - x, self.eps)
        return self.box.clip(found)


@dataclass(frozen=True)
class Walk:
    """Perturbations by growing strength: `at(eps)` for every eps of `grid`."""

    at: Callable[[float], Perturbation]
    grid: np.ndarray
    family: str


def walk(given: str | Perturbation, eps: Any = None, low: float = 0.0) -> Walk:
    """From one of `WALKS`, a spec without its strength such as "pgd:steps=40,restarts=5", or a perturbation.

    eps   its strengths; None: 100 from 1e-4 to 1 on a logarithmic grid, of noise from 1e-2 to 20
    low   the least value of an input: attacks keep within [low, 1], noise goes anywhere
    """
    made = WALKS.get(given) if isinstance(given, str) else given
    if made is None:
        (made,) = sweep(given, eps=[0.1]).values()
    if not isinstance(made, Perturbation) or not hasattr(made, made.strength):
        raise NetprobeError(
            f"cannot walk along {given!r}: give a perturbation of netprobe with a strength, or its spec"
        )
    made = dataclasses.replace(made, low=low) if made.low == 0 != low else made
    noise = isinstance(made, GaussianNoise)
    grid = np.geomspace(*(WIDE if noise else NARROW), POINTS) if eps is None else np.asarray(eps, dtype=float)
    if grid.ndim != 1 or not len(grid) or not (np.diff(grid, prepend=0) > 0).all():
        raise NetprobeError("eps must be a row of growing numbers above 0: np.geomspace(1e-3, 1, 50)")
    build = lambda strength: dataclasses.replace(made, **{made.strength: float(strength)})  # noqa: E731
    build(grid[-1])  # an eps beyond the range of inputs is refused now
    return Walk(build, grid, family(made))


WALKS: Mapping[str, Perturbation] = {
    "random": GaussianNoise(0.1, clip=False),
    "fgsm": FGSM(0.1),
    "pgd": PGD(0.1, restarts=3),
    "coarse-pgd": CoarsePGD(0.1),
}
