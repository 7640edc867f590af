"""The squared norm of the parameters."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.defenses.regularisers.base import Penalty, Regulariser, Step, Subject, wide
from netprobe.errors import unknown
from netprobe.fields import pattern, real


@dataclass(frozen=True, kw_only=True, repr=False)
class L2(Regulariser):
    """R = sum over parameters P of ||P||_2^2, biases and batch norm's included, without a factor 1/2.

    With coupling c its gradient is 2 c P: for SGD without other terms that is weight_decay = 2 c (for Adam too, as its
    decay is added to the gradient), which a recipe has beside it. Frozen parameters do not count.

    parameters : patterns for names, such as "*.weight" or "hidden.*+linear.weight"; "all".

    Unit: that of the parameters, squared. Cost: one pass over the parameters. The default coupling is that of
    Holzhausen et al., arXiv 2405.00679.
    """

    name: ClassVar[str] = "l2"
    title: ClassVar[str] = "L2"

    coupling: float = field(default=5e-4, metadata=real(0, help="what the sum is multiplied with; 0: only record it"))
    parameters: str = field(default="all", metadata=pattern(help="names of the parameters, like *.weight; all"))

    def penalty(self, subject: Subject) -> Penalty:
        names = [name for name, _ in subject.model.named_parameters()]
        patterns = ["*"] if self.parameters == "all" else self.parameters.split("+")
        for one in patterns:
            if not fnmatch.filter(names, one):
                raise unknown("parameter pattern", one, names)
        return SquaredNorm([name for name in names if any(fnmatch.fnmatchcase(name, one) for one in patterns)])

    def recorded(self) -> tuple[str, str, str]:
        which = "all" if self.parameters == "all" else self.parameters
        return "squared norm of the parameters", "1", f"sum of squares of trained parameters ({which}), mean over steps"


class SquaredNorm(Penalty):
    """sum ||P||^2 over the parameters of these names that are trained now."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = frozenset(names)

    def forward(self, model: nn.Module, step: Step) -> Tensor:
        trained = [p for name, p in model.named_parameters() if name in self.names and p.requires_grad]
        return torch.stack([wide(p).square().sum() for p in trained]).sum() if trained else torch.zeros(())
