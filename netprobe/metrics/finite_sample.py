"""The exponent of a power law of which only a finite sample was seen: without the bias, with an interval that holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from netprobe.errors import NetprobeError
from netprobe.metrics.power_law import fit
from netprobe.uncertainty import LEVEL

DRAWS = 32
FEW = 4
"""Draws that are enough to find the exponent roughly: the mean slope hardly varies from draw to draw."""

STEPS = 8
TINY = 1e-300
CLOSE = 0.05
"""How near secants come, in standard deviations of the slope, before a last step that is not tried."""

LEAST_GAIN = 0.05
"""Of slope over exponent, for secants: next to 0 it vanishes."""


@dataclass(frozen=True)
class Corrected:
    """The exponent of the law, its 95 % interval, and by how much the fitted slope is off on average (`bias`)."""

    alpha: float
    low: float
    high: float
    bias: float


UNDEFINED = Corrected(*[np.nan] * 4)


def corrected(
    alpha: float,
    samples: int,
    units: int,
    first: int,
    last: int,
    weighting: str = "ols",
    *,
    left_out: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Corrected:
    """The exponent a of the law lambda_n = n^-a, n = 1..units, of whose samples `fit` returns `alpha` on average.

    Eigenvalues of a sample covariance are spread out: the large too large, the small too small. The fitted slope is
    therefore too steep, by ten and more of its own standard errors where units are a twentieth of the samples. Neither
    the regression's interval nor a jackknife about the slope knows of that: for N(0, diag n^-a), a in {0.5, 1, 1.5, 2},
    2000 samples of 100 units, the exponent was in none of 200 of them. Here the law itself is sampled, and
    m(a) = E[slope] is inverted:

        a' = m^-1(alpha),   interval a' +- t s / m'(a'),   s the standard deviation of the slope of a sample

    Parameters
    ----------
    alpha : slope fitted to ranks `first`..`last` by `power_law.fit` with that `weighting`
    samples : independent observations (images), of which the mean was subtracted; may be fewer than `units`
    units : how many eigenvalues the true covariance has: units that are neither dead nor copies of others
    left_out : slopes without each block of images; s is then theirs, by the jackknife, which holds for observations of
        any distribution; otherwise s is that of Gaussian samples, too small where activations have heavy tails
    draws : samples of the law. The seed decides them

    Returns NaN where `alpha` is NaN, and 0 for slopes that even a flat spectrum has in samples.

    Observations whose size varies as a whole, such as images of very different contrast, act like fewer of them: pass
    samples / k, k = E[r^4] / E[r^2]^2 of their lengths r. (400 samples of 60 units with gamma-distributed r^2, k = 1.5:
    without that the exponent 0.5 was found as 0.61, 1 as 1.06, 2 as 2.04, and intervals held a few of them.) With units
    of kurtosis 9 that are independent, Gaussian intervals held 75 to 82 % of the exponents, those with `left_out` 95 to
    97 %.

    Rests on the law going on over all units, beyond `last` and, with few samples, where no eigenvalue was seen. If the
    spectrum bends there, so is the correction off, though by no more than a part of `bias`: where that is large, more
    images are the remedy. Cost: about `draws` + 3 * FEW eigenvalue problems of size min(samples, units).
    """
    if samples < 3 or not 1 <= first < last <= min(samples - 1, units):
        raise NetprobeError(f"ranks {first}..{last} of {samples} samples of {units} units: give more samples")
    if draws < FEW:
        raise NetprobeError(f"draws={draws}: give {FEW} or more")
    if not np.isfinite(alpha):
        return UNDEFINED
    sample = _Sampled(samples - 1, units, (first, last, weighting), seed, torch.device(device))
    rough = _inverted(sample, alpha, alpha)
    slopes = sample.slopes(rough, draws)
    spread, freedom = np.std(slopes, ddof=1), draws - 1
    noise = spread / np.sqrt(draws)
    if left_out is not None:
        freedom = len(left_out) - 1
        spread = np.sqrt(freedom * np.var(left_out))
    reach = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.hypot(spread, noise)
    better = alpha - (slopes.mean() - slopes[:FEW].mean())  # what the few draws have on average where all have alpha
    found, low, high = (_inverted(sample, better + shift, rough) for shift in (0, -reach, reach))
    return Corrected(found, low, high, alpha - found)


def _inverted(sample: _Sampled, slope: float, start: float) -> float:
    """The exponent at which the mean slope of a few draws is `slope`; 0 if it is above that everywhere.

    By secants; the draws stay the same, so that the mean is a smooth function, which grows with the exponent.
    """
    here, now, gain = start, sample.slopes(start, FEW), 1.0
    for _ in range(STEPS):
        ahead = max(here + (slope - now.mean()) / gain, 0.0)
        then = sample.slopes(ahead, FEW)
        if ahead == 0 and then.mean() >= slope:
            return 0.0
        if ahead != here:
            gain = max((then.mean() - now.mean()) / (ahead - here), LEAST_GAIN)
        here, now = ahead, then
        if abs(now.mean() - slope) <= CLOSE * now.std():
            break
    return max(here + (slope - now.mean()) / gain, 0.0)


@dataclass(frozen=True)
class _Sampled:
    """Slopes fitted to samples of power laws with n degrees of freedom."""

    freedom: int
    units: int
    fitted: tuple[int, int, str]
    seed: int
    device: torch.device

    def slopes(self, alpha: float, draws: int) -> np.ndarray:
        """Of the law with exponent `alpha`, (draw,): draw for draw from the same random numbers."""
        rng = np.random.default_rng(self.seed)
        deviation = np.arange(1, self.units + 1) ** (-alpha / 2)
        return np.array([fit(self._spectrum(deviation, rng), *self.fitted).alpha for _ in range(draws)])

    def _spectrum(self, deviation: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        root = torch.from_numpy(deviation[:, None] * standard(self.units, self.freedom, rng)).to(self.device)
        gram = root @ root.T if self.units <= self.freedom else root.T @ root
        return torch.linalg.eigvalsh(gram).flip(0).clamp_min(TINY).cpu().numpy() / self.freedom


def standard(units: int, freedom: int, rng: np.random.Generator) -> np.ndarray:
    """A random A (units, min(units, freedom)) with A A^T a Wishart matrix of the identity.

    Bartlett's triangle where freedom >= units, whose size does not grow with the number of samples; else the normal
    numbers themselves.
    """
    normal = rng.standard_normal((units, min(units, freedom)))
    if freedom < units:
        return normal
    return np.tril(normal, -1) + np.diag(np.sqrt(rng.chisquare(freedom - np.arange(units))))
