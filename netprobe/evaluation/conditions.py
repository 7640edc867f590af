"""What images are shown under: clean, or one of the perturbations, and what kind of perturbation it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from netprobe import perturb
from netprobe.perturb.corruptions import CORRUPTIONS
from netprobe.perturb.corruptions.base import SEVERITIES, Corruption
from netprobe.perturb.noise import Noise
from netprobe.perturb.specs import sweep

CLEAN = "clean"
ROLES = (CLEAN, "noise", "corruption", "minimum norm", "attack")


@dataclass(frozen=True)
class Condition:
    """A perturbation by name; None for the clean images."""

    name: str
    perturbation: Callable | None = None

    @property
    def role(self) -> str:
        """One of ROLES. What is neither ours to know as noise nor a corruption looks for errors: it is an attack."""
        if self.perturbation is None:
            return CLEAN
        if isinstance(self.perturbation, Noise):
            return "noise"
        if isinstance(self.perturbation, Corruption):
            return "corruption"
        bounded = getattr(self.perturbation, "strength", "eps") == "eps"
        return "attack" if bounded else "minimum norm"

    @property
    def family(self) -> str:
        return CLEAN if self.perturbation is None else perturb.family(self.perturbation)

    @property
    def eps(self) -> float:
        """Its strength: 0 for the clean images, NaN for what has none, such as an attack that looks for the nearest."""
        if self.perturbation is None:
            return 0.0
        return math.nan if self.role == "minimum norm" else perturb.eps_of(self.perturbation)

    @property
    def norm(self) -> str:
        """The norm of an attack's ball, "linf", "l2", "l1" or "l0"; of ours, and of a callable that has a `norm`."""
        named = getattr(self.perturbation, "norm", "") if self.role in ("attack", "minimum norm") else ""
        return str(named)

    @property
    def spectral(self) -> bool:
        """Whether the spatial frequencies of what it changes are worth telling."""
        return self.role in ("minimum norm", "corruption")

    @property
    def budget(self) -> tuple[str, float] | None:
        """The ball that it promises to stay in."""
        return (self.norm, self.eps) if self.role == "attack" and self.norm and math.isfinite(self.eps) else None


def conditions_of(named: Mapping[str, Callable]) -> list[Condition]:
    """Clean images first, then the perturbations in their order."""
    return [Condition(CLEAN), *(Condition(name, perturbation) for name, perturbation in named.items())]


def corruptions(
    severities: Iterable[int] = SEVERITIES, names: Iterable[str] | None = None, channels: int = 3
) -> dict[str, Corruption]:
    """Common corruptions at these severities, by name: "fog@3".

    `names` are which; None takes all 19 for images of 3 `channels`, and those that need no colour for grey ones.
    """
    chosen = [n for n, c in CORRUPTIONS.items() if channels in c.channels] if names is None else list(names)
    mild = [perturb.parse(f"{name}:severity=1") for name in chosen]
    return {name: each for one in mild for name, each in sweep(one, severity=list(severities)).items()}
