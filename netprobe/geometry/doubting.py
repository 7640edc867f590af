"""When distances found by attacks are not to be believed."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr
from scipy import stats

from netprobe.geometry.survival import reached
from netprobe.perturb import FGSM, GaussianNoise, SaltAndPepper, UniformNoise

NOISE = tuple(kind.title for kind in (GaussianNoise, UniformNoise, SaltAndPepper))
"""Families that look at no gradient."""
SURE = 0.01
"""Largest p value of a doubt."""


def distance_doubts(distances: xr.Dataset) -> list[str]:
    """What an attack that follows gradients cannot do unless they are masked, as sentences; none is the usual result.

    Of what `critical_distances` gave, image by image:
        noise nearer      a walk of random noise errs at a smaller L2 distance than an attack
        iteration weaker  an iterative attack needs a larger eps than FGSM does
    each where it is so on more than half of the images whose order is known, sign test, one-sided, p < 0.01.
    """
    families = dict(zip(distances["walk"].values.tolist(), distances["family"].values.tolist(), strict=True))
    noise = [name for name, family in families.items() if family in NOISE]
    attacks = [name for name in families if name not in noise]
    single = [name for name in attacks if families[name] == FGSM.title]
    found = [*_nearer(distances, noise, attacks, "distance", "random noise errs nearer than the attack")]
    iterated = [name for name in attacks if name not in single]
    return [
        *found,
        *_nearer(distances, single, iterated, "critical_eps", "a single step needs less than the iteration"),
    ]


def _nearer(distances: xr.Dataset, weak: list[str], strong: list[str], variable: str, said: str) -> Iterator[str]:
    """Where a way that should be the longer one is the shorter."""
    for name in weak:
        for other in strong:
            one, two = (reached(distances.sel(walk=each), variable) for each in (name, other))
            shorter, longer = int((one < two).sum()), int((one > two).sum())
            decided = shorter + longer
            if decided and stats.binomtest(shorter, decided, alternative="greater").pvalue < SURE:
                yield f"{said} ({name}, {other}) on {shorter} of {decided} images"
