"""A model under suspicion: what is known of it, and a way to ask more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.evaluation.conditions import CLEAN, Condition
from netprobe.evaluation.datasets import correct_of
from netprobe.evaluation.paired import Paired
from netprobe.evaluation.running import Runner, Table
from netprobe.perturb.geometry import Box
from netprobe.perturb.gradient import GradientAttack
from netprobe.perturb.objective import predict

REPEATABLE = 1e-4
"""A smaller change of logits between passes, relative to the largest, is a sum in another order, not noise."""


class Suspect:
    """One model with its outcomes. Extra attacks are units of work like any other: kept, and not made twice."""

    def __init__(
        self, name: str, runner: Runner, conditions: Sequence[Condition], tables: Mapping[str, Table], bar: tqdm
    ) -> None:
        self.name, self.runner, self.conditions, self.tables, self.bar = name, runner, conditions, tables, bar
        self.label = runner.data.labels.numpy()
        self.box = Box(0.0, 1.0) if runner.data.kind == "image" else Box(-1.0, 1.0)

    @cached_property
    def sample(self) -> np.ndarray:
        """Positions of a few images, spread out: the classes may come one after the other."""
        return _spread(np.arange(len(self.label)), self.runner.chosen.probe_images)

    @cached_property
    def inputs(self) -> tuple[Tensor, Tensor]:
        """Those images and their labels, where the model is."""
        (batch,) = self.runner.data.select(self.sample).batches(len(self.sample), self.runner.device(self.name))
        dtype = next((p.dtype for p in self.model.parameters()), batch.x.dtype)
        return batch.x.to(dtype), batch.y

    @property
    def model(self) -> nn.Module:
        return self.runner.placed(self.name)

    @cached_property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """The sample in batches of images and labels."""
        return list(zip(*(part.split(self.runner.batch(self.name)) for part in self.inputs), strict=True))

    def reseed(self) -> None:
        """Start the global random state, which models may draw from, where it always starts."""
        torch.manual_seed(self.runner.chosen.seed)

    @cached_property
    def passes(self) -> tuple[Tensor, Tensor]:
        """Logits of the sample, twice."""
        self.reseed()
        return tuple(torch.cat([predict(self.model, x) for x, _ in self.batches]) for _ in range(2))

    @property
    def moved(self) -> float:
        """The largest change of a logit from one pass to another, relative to the largest logit."""
        one, other = self.passes
        return float((one - other).abs().max() / one.abs().max().clamp_min(torch.finfo(one.dtype).tiny))

    @property
    def random(self) -> bool:
        """Whether the model answers anew each time."""
        return self.moved > REPEATABLE

    @property
    def others(self) -> dict[str, nn.Module]:
        """The other models of the evaluation."""
        return {name: self.runner.placed(name) for name in self.runner.models if name != self.name}

    def right(self, condition: Condition | str) -> np.ndarray:
        """(image,) whether the model stood."""
        name = condition if isinstance(condition, str) else condition.name
        return correct_of(self.tables[name], self.label) == 1

    @cached_property
    def gradient_attacks(self) -> list[Condition]:
        """Those of the evaluation that follow gradients, with a budget above 0."""
        return [c for c in self.conditions if isinstance(c.perturbation, GradientAttack) and c.eps > 0]

    @cached_property
    def reference(self) -> Condition | None:
        """The attack that the others are compared with: of those with the most steps the one whose accuracy is nearest
        to half of the clean one, where differences show best. None if there is no gradient attack.
        """
        most = max((_steps(c) for c in self.gradient_attacks), default=0)
        serious = [c for c in self.gradient_attacks if _steps(c) > 1 or most == 1]
        middle = self.right(CLEAN).mean() / 2
        return min(serious, key=lambda c: (abs(self.right(c).mean() - middle), -_steps(c)), default=None)

    @cached_property
    def standing(self) -> np.ndarray:
        """Positions of a few images that stood against the reference."""
        return _spread(np.flatnonzero(self.right(self.reference)), -(-self.runner.chosen.probe_images // 2))

    @property
    def standing_share(self) -> float:
        return float(self.right(self.reference).mean())

    def stands(self, name: str, perturbation: Callable, positions: np.ndarray) -> np.ndarray:
        """Whether the model is right at these positions under a perturbation of our own."""
        table, condition = Table(len(self.label)), Condition(name, perturbation)
        self.bar.total += len(positions)
        self.bar.refresh()
        for chunk in self.runner.chunks(self.name, positions):
            if self.runner.kept(self.name, condition, chunk) is not None:
                self.bar.update(len(chunk))
            table.fill(chunk, self.runner.outcome(self.name, condition, chunk, self.bar))
        return (correct_of(table, self.label) == 1)[positions]

    def against(self, perturbation: Callable, name: str) -> Paired:
        """The reference and another attack on the sample: how often the model stands against each."""
        return Paired.of(self.right(self.reference)[self.sample], self.stands(name, perturbation, self.sample))

    def broken(self, perturbation: Callable, name: str) -> tuple[int, int]:
        """How many of a few images that stood against the reference another attack breaks; and how many were tried."""
        return int((~self.stands(name, perturbation, self.standing)).sum()), len(self.standing)


def _steps(condition: Condition) -> int:
    return condition.perturbation.steps * condition.perturbation.restarts


def _spread(positions: np.ndarray, most: int) -> np.ndarray:
    """At most so many of them, evenly spaced."""
    return positions[np.unique(np.linspace(0, len(positions) - 1, min(most, len(positions))).round().astype(int))]
