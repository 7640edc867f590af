"""Learning a layer by the local rule: passes over the samples, attempts until one is accepted, kills survived."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from netprobe.defenses.krotov_hopfield.rule import Learner, LocalRule
from netprobe.errors import NetprobeError
from netprobe.fields import real, whole
from netprobe.guard import full_precision, undivided
from netprobe.store.scratch import Scratch

logger = logging.getLogger(__name__)

TOLERANCE = 1e-2
"""How far the p-norm of a converged unit is from R at most."""
LOOK_EVERY = 1.0
"""Seconds between looks at the weights: each makes the host wait for the device."""
START, ORDER = range(2)
"""Independent streams of one seed."""
AT_ONCE = 1024
"""Samples at a time, when units compete for all of them."""


@dataclass(frozen=True, kw_only=True, repr=False)
class LocalLearning(LocalRule):
    """The rule, and how long and how often it is tried. Defaults are those published for CIFAR-10.

    In epoch e = 1, ..., E the rate is lr (1 - e / E); the last one changes nothing. Weights start at N(0, 1).
    """

    lr: float = field(default=0.02, metadata=real(0, inside=True, help="largest change of a weight in the first steps"))
    epochs: int = field(default=1000, metadata=whole(2, help="E, passes over the samples"))
    batch_size: int = field(default=1000, metadata=whole(1, help="samples of a step"))
    converged: float = field(default=0.9, metadata=real(0, 1, help="least share of units of p-norm R +- 0.01"))
    winning: float = field(default=0.5, metadata=real(0, 1, help="least share of units that win a sample, if accepted"))
    attempts: int = field(default=3, metadata=whole(1, help="seeds to try until the result is accepted"))


class Attempt(NamedTuple):
    """How one attempt ended.

    converged  share of units with | ||W_mu||_p - R | <= 0.01
    negative   units with mean_i W_mu,i < -R / 2
    winning    units that win at least one of the samples, over the units that could: min(H, N)
    """

    converged: float
    negative: int
    winning: float

    def faults(self, settings: LocalLearning) -> list[str]:
        """Why it is not accepted; nothing if it is."""
        found = []
        if not self.converged >= settings.converged:
            found.append(f"{self.converged:.1%} of the units have come to the p-norm R, not {settings.converged:.0%}")
        if self.negative:
            found.append(f"{self.negative} unit(s) have a mean below -R/2")
        if not self.winning >= settings.winning:
            found.append(f"{self.winning:.1%} of the units win a sample, not {settings.winning:.0%}")
        return found


class Learnt(NamedTuple):
    """Weights (H, D) that were accepted, and all attempts, the accepted one last."""

    weight: Tensor
    attempts: tuple[Attempt, ...]


def learn(
    samples: Tensor,
    units: int,
    settings: LocalLearning,
    *,
    seed: int = 0,
    scratch: Scratch | None = None,
    progress: bool = True,
) -> Learnt:
    """Weights of `units` units learnt from `samples` (N, D) on the device that they are on.

    Attempts follow from (seed, number of the attempt); on a CPU the same seed gives the same bits. An attempt is
    accepted if at least `converged` of its units have p-norm R within 0.01, none a mean below -R/2 (Holzhausen et al.),
    and at least `winning` of them win a sample: norms and means say nothing of a collapse to few winners. With
    `scratch` it goes on where it was killed, to the same bits.

    Cost: an epoch is N / batch_size products of (batch, D) and (D, H), twice that on a GPU (tests/benchmarks/
    local_learning.py). Memory: the samples, and the weights twice.

    Errors: NetprobeError if no attempt is accepted, with how each ended.
    """
    settings.check_units(units)
    course = _Course(samples, units, settings, seed, scratch or Scratch())
    while True:
        with full_precision(), torch.no_grad():
            course.run(progress)
            attempt = course.judged()
        course.attempts.append(attempt)
        faults = attempt.faults(settings)
        logger.info("local learning, attempt %d: %s", len(course.attempts), "; ".join(faults) or "accepted")
        if not faults:
            course.keep()
            return Learnt(course.learner.weight, tuple(course.attempts))
        if len(course.attempts) == settings.attempts:
            raise NetprobeError(_refusal(course.attempts, settings, course.typical_norm))
        course.begin()


def start(units: int, features: int, seed: int, attempt: int = 0) -> Tensor:
    """The weights (H, D) that an attempt starts from, N(0, 1), on the CPU: smaller ones make learning collapse."""
    return torch.randn(units, features, generator=_generator(seed, attempt, START))


class _Course:
    """Where learning is. All else follows from the samples, the settings and the seed: no random state is kept."""

    def __init__(self, samples: Tensor, units: int, settings: LocalLearning, seed: int, scratch: Scratch) -> None:
        self.samples, self.units, self.settings, self.seed, self.scratch = samples, units, settings, seed, scratch
        self.attempts: list[Attempt] = []
        state = scratch.read()
        if state is None:
            self.begin()
        else:
            self._restore(state)

    def begin(self) -> None:
        """The next attempt."""
        weight = start(self.units, self.samples.shape[1], self.seed, len(self.attempts))
        self._at(weight, 1, 0)

    def _at(self, weight: Tensor, epoch: int, step: int) -> None:
        self.learner = Learner(weight.to(self.samples), self.settings)
        self.epoch, self.step = epoch, step

    def keep(self) -> None:
        """Write down where learning is."""
        weight, ended = self.learner.weight.cpu(), [list(attempt) for attempt in self.attempts]
        self.scratch.write({"weight": weight, "epoch": self.epoch, "step": self.step, "attempts": ended})

    def _restore(self, state: dict[str, Any]) -> None:
        self.attempts = [Attempt(*numbers) for numbers in state["attempts"]]
        if self.attempts and state["epoch"] > self.settings.epochs:  # it was accepted, and is judged again
            self.attempts.pop()
        self._at(state["weight"], state["epoch"], state["step"])

    def run(self, progress: bool) -> None:
        """The rest of this attempt."""
        n, epochs, number = len(self.samples), self.settings.epochs, len(self.attempts) + 1
        done = (self.epoch - 1) * n + self.step * self.settings.batch_size
        name = "local learning" + (f", attempt {number}" if number > 1 else "")
        with tqdm(
            total=(epochs - 1) * n,
            initial=min(done, (epochs - 1) * n),
            desc=name,
            unit="image",
            unit_scale=True,
            disable=not progress,
        ) as bar:
            try:
                while self.epoch < epochs and self._epoch(bar):
                    self.epoch, self.step = self.epoch + 1, 0
            except KeyboardInterrupt:
                self.keep()
                raise
        self.epoch = epochs + 1

    def _epoch(self, bar: tqdm) -> bool:
        """The rest of this epoch; whether there is any use in another one."""
        lr, looked = self.settings.lr * (1 - self.epoch / self.settings.epochs), time.monotonic()
        for positions in self._batches()[self.step :]:
            with undivided():
                self.learner.step(self.samples[positions], lr)
                self.step += 1
            bar.update(len(positions))
            if time.monotonic() - looked > LOOK_EVERY:
                converged, finite = self._look()
                bar.set_postfix(converged=f"{converged:.1%}")
                looked = time.monotonic()
                if not finite:
                    return False
                if self.scratch.due:
                    self.keep()
        return True

    def _batches(self) -> tuple[Tensor, ...]:
        chance = _generator(self.seed, len(self.attempts), ORDER, self.epoch)
        positions = torch.randperm(len(self.samples), generator=chance).to(self.samples.device)
        return positions.split(self.settings.batch_size)

    def _look(self) -> tuple[float, bool]:
        """The share of units that have converged, and whether all weights are numbers."""
        norms = self.settings.norms(self.learner.weight)
        return self._converged(norms), bool(norms.isfinite().all())

    def _converged(self, norms: Tensor) -> float:
        return ((norms - self.settings.radius).abs() <= TOLERANCE).double().mean().item()

    @property
    def typical_norm(self) -> float:
        """The median of the units' norms, over R."""
        return self.settings.norms(self.learner.weight).median().item() / self.settings.radius

    def judged(self) -> Attempt:
        """How this attempt has ended."""
        weight, wins = self.learner.weight, torch.zeros(self.units, dtype=torch.bool, device=self.samples.device)
        for part in self.samples.split(AT_ONCE):
            wins[(part @ self.learner.powered.T).argmax(1)] = True
        negative = int((weight.mean(1) < -self.settings.radius / 2).sum())
        winning = int(wins.sum()) / min(self.units, len(self.samples))
        return Attempt(self._converged(self.settings.norms(weight)), negative, winning)


def _refusal(attempts: list[Attempt], settings: LocalLearning, norm: float) -> str:
    best = [
        math.floor(100 * max(each)) / 100 for each in zip(*((a.converged, a.winning) for a in attempts), strict=True)
    ]
    smaller = "with k=2, " if settings.k > 2 else ""
    ends = "; ".join(f"attempt {n}: {' and '.join(each.faults(settings))}" for n, each in enumerate(attempts, 1))
    return (
        f"local learning was not accepted in {len(attempts)} attempt(s), each with a seed of its own. {ends}. The "
        f"norms' median is {norm:.3g} R in the last: learn {_remedy(attempts[-1], norm, settings)}, {smaller}or with "
        f"fewer units; or accept less, converged={best[0]:.2g},winning={best[1]:.2g}: units that have not converged "
        "can be pruned, but few winners are a collapse"
    )


def _remedy(last: Attempt, norm: float, settings: LocalLearning) -> str:
    """Norms come to R from above, step by step; steps that are too long carry them below, where they fall together, or
    leave few winners.
    """
    if norm < 1 - TOLERANCE or last.winning < settings.winning:
        return f"at a lower lr than {settings.lr:g}"
    return f"for more epochs than {settings.epochs}, in smaller batches than {settings.batch_size}"


def _generator(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
