"""The eigenspectrum of a representation, drawn towards a power law."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from netprobe.defenses.regularisers.base import Penalty, Regulariser, Step, Subject, Sum, Survey, wide
from netprobe.errors import NetprobeError
from netprobe.fields import choice, pattern, real, whole
from netprobe.metrics.spectrum import DEFINITIONS
from netprobe.probing.observables import Observation
from netprobe.probing.streaming import Moments
from netprobe.processes import Processes
from netprobe.recipes import SHALLOW, Recipe
from netprobe.sites import Site

logger = logging.getLogger(__name__)

TARGETS = ("anchored", "absolute")
LARGEST = 8192
"""Variables whose covariance is diagonalised every epoch: at this size half a GiB, and a minute or more."""
ROWS = 1.25
"""Rows of a batch for each variable, below which a warning is due."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Spectral(Regulariser):
    """R = 1/H sum_{n >= tau} [(lambda_n / gamma_n - 1)^2 + max(0, lambda_n / gamma_n - 1)], H the width at `site`.

    lambda_n is the variance of the batch along S_n, unbiased: that of the batch's rows z - mean on S_n, over (rows -
    1). S_n is the n-th eigenvector, by descending eigenvalue, of the covariance over the whole training set (centred,
    float64), found anew as each epoch begins and fixed in it; gradients flow through z alone. The target is
        anchored   gamma_n = lambda_tau (tau / n)^alpha, lambda_tau that of the batch, without gradient: only the shape
                   of the spectrum counts, from rank tau + 1 on
        absolute   gamma_n = n^(-alpha): the scale counts too
    Above its target an eigenvalue costs more than as far below it. Ranks with lambda_n or gamma_n = 0 (dead units) do
    not count.

    Parameters
    ----------
    site : where z is; several joined by "+" add up, each with a spectrum of its own.
    alpha, tau : exponent, and first rank, from 1; tau=0 with target=absolute: all ranks, like 1.
    rows : what the H variables are, as for the metric `spectrum`. "unit": every number of an image; "pooled": channels,
        averaged over places; "channel": channels, every place a row.

    Notes
    -----
    R has no unit. An epoch begins with a pass of the training set in eval mode (augmented as it will be in the epoch,
    not attacked), N H^2 multiply-adds and an eigenproblem of size H; a step costs rows H^2 more. Refused: H above 8192,
    and training sets of H rows or fewer, whose smallest eigenvalues are 0 whatever the network does. Batches of fewer
    than 1.25 H rows, the papers' ratio, are warned of: each lambda_n has a relative standard error of about
    sqrt(2 / rows), whose square R contains as a bias. The batch's mean and variances are over all processes together.

    Nassar, Sokol, Chung, Harris and Park, arXiv 2012.04729: anchored, `relu`, alpha 1, their code anchoring at rank 11
    (tau=11), their beta (1 to 5; 0.01 to 2 for several layers) our coupling. Holzhausen et al., arXiv 2405.00679:
    absolute, `hidden`, alpha 1, tau 0, coupling 1, or alpha 2.62, tau 10, coupling 1e-3; with batch norm behind `relu`.
    In float32 lambda_n far below 1e-7 lambda_1 is rounding.
    """

    name: ClassVar[str] = "spectral"
    title: ClassVar[str] = "power-law spectrum"

    coupling: float = field(
        default=1.0, metadata=real(0, help="beta, what the term is multiplied with; 0: only record it")
    )
    site: str = field(default="relu", metadata=pattern(help="where z is, as for `netprobe layers --sites`"))
    alpha: float = field(default=1.0, metadata=real(0, help="exponent of the power law"))
    tau: int = field(default=10, metadata=whole(0, help="first rank that counts, and the anchor"))
    target: str = field(default="anchored", metadata=choice(TARGETS, help="where the power law lies"))
    rows: str = field(default="unit", metadata=choice(DEFINITIONS, help="what the variables are"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target == "anchored" and self.tau == 0:
            raise NetprobeError("tau=0 is no rank to anchor the power law at: give 1 or more, or target=absolute")

    def penalty(self, subject: Subject) -> Penalty:
        sites = subject.named(self.site)
        for site in sites:
            self._check(site, subject)
        return Sum(PowerLaw(site, self) for site in sites)

    def published(self, architecture: str, shape: tuple[int, ...]) -> Recipe | None:
        """Of `shallow`: Adam, whose rate falls by 1 / e in 30 epochs from epoch 90 on."""
        if architecture != "shallow":
            return None
        return SHALLOW.with_settings(schedule="exponential", milestones=(90,), factors=None, gamma=math.exp(-1 / 30))

    def _check(self, site: Site, subject: Subject) -> None:
        width = self.width(site)
        places = site.units // site.channels if self.rows == "channel" else 1
        first = max(self.tau, 1) + (self.target == "anchored")
        if width < first:
            raise NetprobeError(f"{site.name!r} has {width} variables, and the first rank that counts is {first}")
        if width > LARGEST:
            raise NetprobeError(
                f"{site.name!r} has {width:,} variables, more than the {LARGEST:,} whose covariance can be kept: "
                "choose rows=pooled or rows=channel, or another site"
            )
        if subject.images * places <= width:
            raise NetprobeError(
                f"{subject.images:,} training images say nothing of the smallest of the {width:,} eigenvalues at "
                f"{site.name!r}: choose a narrower site, or rows=pooled"
            )
        batch = min(subject.batch_size, subject.images) * places
        if batch < ROWS * width:
            logger.warning(
                "spectral: batches of %d rows for the %d variables at %r: each eigenvalue has a relative standard "
                "error of %.0f %%; a batch_size of %d or more is advised",
                *(batch, width, site.name, 100 * math.sqrt(2 / batch), math.ceil(ROWS * width / places)),
            )

    def width(self, site: Site) -> int:
        """H, how many variables there are at `site`."""
        return site.units if self.rows == "unit" else site.channels

    def recorded(self) -> tuple[str, str, str]:
        about = f"distance of the spectrum at {self.site} from n^-{self.alpha:g} ({self.target}, from rank {self.tau})"
        return "power-law distance of the spectrum", "1", about


class PowerLaw(Penalty):
    """The term at one site; `directions` (H, H) holds S_n in column n, in the precision of the network."""

    directions: Tensor

    def __init__(self, site: Site, settings: Spectral) -> None:
        super().__init__()
        self.sites, self.settings = (site,), settings
        width = settings.width(site)
        self.register_buffer("directions", torch.eye(width))
        self.register_buffer("rank", torch.arange(1, width + 1, dtype=torch.float32), persistent=False)

    def begin_epoch(self, model: nn.Module, survey: Survey, together: Processes) -> None:
        """Find the eigenvectors of the covariance over the whole training set."""
        moments: list[Moments] = []

        def take(site: Site, tensor: Tensor) -> None:
            rows = self.rows_of(tensor)
            if not moments:  # around one shift everywhere, so that the processes' sums add up
                shift = together.add_up(rows.mean(0, dtype=torch.float64)) / together.size
                moments.append(Moments(rows.shape[1], rows.device, shift))
            moments[0].update(rows)

        survey(self.sites, take)
        if not together.local:
            state = moments[0].state()
            moments = [Moments.restore(state | {k: together.add_up(state[k]) for k in ("count", "total", "lower")})]
        _, vectors = torch.linalg.eigh(moments[0].covariance)  # ascending
        self.directions.copy_(vectors.flip(1))

    def rows_of(self, tensor: Tensor) -> Tensor:
        """The observations (row, variable) in the tensor (B, ...) of the site."""
        seen = Observation(self.sites[0], wide(tensor), torch.arange(len(tensor)), 1)
        match self.settings.rows:
            case "unit":
                return seen.flat[0]
            case "pooled":
                return seen.rows[0].mean(1)
        return seen.rows[0].flatten(0, 1)

    def forward(self, model: nn.Module, step: Step) -> Tensor:
        rows = self.rows_of(step.values[self.sites[0].name])
        return self.distance(self.variances(rows, step))

    def variances(self, rows: Tensor, step: Step) -> Tensor:
        """lambda_n, (H,), of the rows of all processes."""
        count = step.total(torch.full((), float(len(rows)), dtype=rows.dtype, device=rows.device))
        mean = step.total(rows.sum(0)) / count
        projected = (rows - mean) @ self.directions.to(rows.dtype)
        return step.total(projected.square().sum(0)) / (count - 1)

    def distance(self, variances: Tensor) -> Tensor:
        """R of eigenvalues (H,) in the order of their ranks."""
        rank, tau = self.rank.to(variances.dtype), max(self.settings.tau, 1)
        target, first = rank.pow(-self.settings.alpha), tau
        if self.settings.target == "anchored":
            target, first = variances[tau - 1].detach() * (target / target[tau - 1]), tau + 1
        counts = (rank >= first) & (variances > 0) & (target > 0)
        excess = variances.where(counts, 1) / target.where(counts, 1) - 1
        return (excess.square() + excess.relu()).sum() / len(variances)
