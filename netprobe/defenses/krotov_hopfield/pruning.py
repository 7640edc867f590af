"""Which units have not come to a prototype, told from the variance of their weights."""

from __future__ import annotations

import itertools
import logging
import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits
from torch import Tensor

from netprobe.errors import NetprobeError, unknown

logger = logging.getLogger(__name__)

RULES = ("mixture", "fixed", "none")
FEATURES, P, CUTOFF = 3072, 3.0, 0.0015
"""The inputs and the norm that the published cutoff, window and means are for, with R = 1."""
WINDOW, MEANS = (-9.0, -3.0), (-7.1, -8.5, -6.5, -6.0)
"""Of ln s: what the mixture is fitted to, and where its components begin."""
SIGNIFICANT, FREEDOM = 0.01, 3
"""A further component must raise the likelihood so much; it has three parameters."""
MANY = 0.5
"""A pruned share above this is worth a warning."""


class Pruned(NamedTuple):
    """Which units stay, (H,) bool, and the variance s from which on they do not; infinity where all stay."""

    kept: Tensor
    cutoff: float

    @property
    def share(self) -> float:
        """Of units pruned."""
        return 1 - self.kept.double().mean().item()


def prune(
    weight: Tensor, rule: str = "mixture", *, cutoff: float | None = None, p: float = P, radius: float = 1.0
) -> Pruned:
    """The units of weights W (H, D) to keep: those whose s_mu = Var_i(W_mu,i) is below a cutoff.

        mixture  y = ln s within a window is fitted by 1 to 4 Gaussians, another one as long as twice the gain in
                 ln likelihood has a chi^2(3) p-value below 0.01; the cutoff is midway between the two largest means.
                 With one Gaussian no unit in the window is pruned. So many Gaussians begin at those of the four
                 published means that end at the largest likelihood: begun at the first ones they miss small modes
        fixed    s >= `cutoff`; none: 0.0015, for 3072 inputs, p = 3 and R = 1 alone
        none     nothing

    Weights of p-norm R have variances around R^2 D^(-2/p), so the published window -9 < y < -3 and initial means are
    moved by what ln of that differs from 3072 inputs, p = 3 and R = 1. Units above the window, where those are that
    have hardly left their random start, are pruned in any case; in the published code only with a second Gaussian.

    Errors: NetprobeError where no unit would be left. Holzhausen et al., arXiv 2405.00679, and their later code.
    """
    if rule not in RULES:
        raise unknown("rule of pruning", rule, RULES)
    variances = weight.detach().double().flatten(1).var(1, correction=0)
    if rule == "none":
        found = math.inf
    elif rule == "fixed":
        found = check_cutoff(cutoff, weight[0].numel(), p, radius)
    else:
        found = mixture_cutoff(variances.log().cpu().numpy(), _shift(weight[0].numel(), p, radius))
    pruned = Pruned(variances < found, found)
    logger.info("%.1f %% of %d units pruned, of variance %.3g and more", 100 * pruned.share, len(weight), found)
    if not pruned.kept.any():
        raise NetprobeError(
            f"all {len(weight)} units would be pruned (variance {found:.3g} and more): learn for longer, or prune=none"
        )
    if pruned.share > MANY:
        logger.warning(
            "%.0f %% of the units are pruned (variance %.3g and more): learn for longer, or look at plot_pruning",
            *(100 * pruned.share, found),
        )
    return pruned


def check_cutoff(cutoff: float | None, features: int, p: float, radius: float) -> float:
    """The fixed cutoff for so many inputs; the published one is refused where it means something else."""
    if cutoff is not None:
        return cutoff
    if (features, p, radius) != (FEATURES, P, 1.0):
        raise NetprobeError(
            f"the published cutoff {CUTOFF} is for {FEATURES} inputs, p=3 and R=1; with {features} inputs, p={p:g} and "
            f"R={radius:g} it would cut elsewhere: give cutoff=, or prune=mixture"
        )
    return CUTOFF


def mixture_cutoff(y: np.ndarray, shift: float = 0.0) -> float:
    """The variance from which on units are pruned, for y = ln s (H,), by the rule of mixtures moved by `shift`."""
    low, high = (edge + shift for edge in WINDOW)
    inside = y[(low < y) & (y < high)][:, None]
    means, likelihood = np.array([]), -math.inf
    for components in range(1, min(len(MEANS), len(inside) - 1) + 1):
        starts = itertools.combinations(np.array(MEANS) + shift, components)
        fits = [_fitted(inside, np.array(means)) for means in starts]
        fitted = max(fits, key=lambda each: each.lower_bound_)
        found = fitted.score(inside) * len(inside)
        if chi2.sf(2 * (found - likelihood), FREEDOM) >= SIGNIFICANT:
            break
        means, likelihood = np.sort(fitted.means_[:, 0]), found
    return math.exp(high if len(means) < 2 else means[-2:].mean())


def _fitted(y: np.ndarray, means: np.ndarray) -> GaussianMixture:
    # One thread: the order of sums, so the result, does not depend on the machine's load.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(len(means), means_init=means[:, None], max_iter=1000, random_state=0).fit(y)


def _shift(features: int, p: float, radius: float) -> float:
    return 2 * math.log(radius) - 2 / p * math.log(features) + 2 / P * math.log(FEATURES)
