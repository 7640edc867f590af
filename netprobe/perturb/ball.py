"""What perturbations within a ball of radius eps share: the two settings, their check, and their name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from netprobe.fields import choice, real
from netprobe.perturb.base import Perturbation
from netprobe.perturb.geometry import GEOMETRIES, Geometry


@dataclass(frozen=True, kw_only=True, repr=False)
class InBall(Perturbation):
    """x' with ||x' - x|| <= eps in `norm`; eps is in input units, and refused if wider than the box in Linf."""

    strength: ClassVar[str] = "eps"

    eps: float = field(kw_only=False, metadata=real(0, help="radius of the ball, in input units"))
    norm: str = field(default="linf", metadata=choice(GEOMETRIES, help="norm of the ball"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norm == "linf":
            self.check_input_units("eps")

    @property
    def family(self) -> str:
        return self.with_norm(self.title)

    def with_norm(self, name: str) -> str:
        """`name`, with the norm behind it unless that is Linf, which goes without saying."""
        return name if self.norm == "linf" else f"{name} {self.norm.upper()}"

    @property
    def geometry(self) -> Geometry:
        return GEOMETRIES[self.norm]
