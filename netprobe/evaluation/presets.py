"""Whole evaluations by name: what a publication tried, as ordinary conditions of `evaluate`."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import nn

from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.enrolled import Enrolled
from netprobe.errors import NetprobeError
from netprobe.evaluation.conditions import corruptions
from netprobe.fields import Checked, choice, real, reals, several, whole, wholes
from netprobe.perturb.apgd import APGD
from netprobe.perturb.corruptions import BENCHMARK, CORRUPTIONS, SEVERITIES
from netprobe.perturb.decision import Boundary
from netprobe.perturb.gradient import FGSM
from netprobe.perturb.specs import sweep
from netprobe.perturb.transfer import transfers
from netprobe.probing.probe import named_models
from netprobe.specs import Catalogue
from netprobe.store.fingerprint import fingerprint


class Ranges(NamedTuple):
    """The largest strength of each sweep, and the small budgets of the white-box attack, in units of [0, 1]."""

    gaussian: float
    uniform: float
    salt_and_pepper: float
    fgsm: float
    white_box: tuple[float, ...]


RANGES = {
    "cifar10": Ranges(0.1, 0.1, 0.1, 0.02, (1 / 255, 2 / 255)),
    "cifar100": Ranges(0.1, 0.1, 0.1, 0.005, (1 / 255, 2 / 255)),
    "mnist": Ranges(0.5, 0.5, 0.3, 0.5, (0.05, 0.1)),
}
"""By what the images are like: small photographs, colour or grey, in 10 or 100 classes; strokes and garments. All but
the white-box budgets are published."""
ALIKE = {"mnist": "mnist", "digits": "mnist", "cifar100": "cifar100", "cifar10": "cifar10"}
"""Which of RANGES is for data with that in its name."""
PARTS = ("noise", "transfer", "boundary", "corruptions", "white-box")


@dataclass(frozen=True, kw_only=True, repr=False)
class Preset(Checked):
    """A set of conditions that depends on the data; its fields are its settings."""

    name: ClassVar[str]

    @abstractmethod
    def conditions(self, data: Data, surrogates: Mapping[str, nn.Module]) -> dict[str, Callable]:
        """The perturbations by name, as `evaluate` takes them."""


@dataclass(frozen=True, kw_only=True, repr=False)
class BlackBox(Preset):
    """What the work on pixel-similarity regularisers tried (arXiv 2410.03952), and the white-box row that it left out.

    noise         Gaussian, uniform U[-eps, eps), and salt and pepper: sweeps of `points` strengths, evenly spaced from
                  0, which is the clean images, to the largest
    transfer      FGSM made against each surrogate, likewise
    boundary      the Boundary attack away from the model's own prediction, `repeats` times with other noise for each of
                  `boundary_steps`: "boundary 50 steps-1", ... Published are 50 steps, which measure little but the
                  start: compare models by them, and run some thousands on a few hundred images besides
    corruptions   the 15 of CIFAR-10-C at `severities`
    white-box     APGD of small budgets: what the networks stand when the attacker knows them. Expect little

    Strengths are in units of [0, 1], and results are clipped to it; the work clips noise to each image's own range,
    which weakens it on images of low contrast, and FGSM to that of the batch.
    """

    name: ClassVar[str] = "black-box"

    parts: tuple[str, ...] = field(default=PARTS, metadata=several(PARTS, help="what to try"))
    ranges: str = field(
        default="auto", metadata=choice(("auto", *RANGES), help="whose strengths; auto: by the name of the data")
    )
    points: int = field(default=10, metadata=whole(2, help="strengths of a sweep, 0 included"))
    gaussian: float | None = field(default=None, metadata=real(0, optional=True, help="largest standard deviation"))
    uniform: float | None = field(default=None, metadata=real(0, optional=True, help="largest eps of uniform noise"))
    salt_and_pepper: float | None = field(default=None, metadata=real(0, 1, optional=True, help="largest amount"))
    fgsm: float | None = field(default=None, metadata=real(0, optional=True, help="largest eps of transferred FGSM"))
    boundary_steps: tuple[int, ...] = field(default=(50,), metadata=wholes(1, help="steps of the Boundary attack"))
    repeats: int = field(default=5, metadata=whole(1, help="Boundary attacks with other noise"))
    severities: tuple[int, ...] = field(default=SEVERITIES, metadata=wholes(1, help="of the corruptions"))
    white_box: tuple[float, ...] | None = field(default=None, metadata=reals(0, help="eps of APGD"))

    def conditions(self, data: Data, surrogates: Mapping[str, nn.Module]) -> dict[str, Callable]:
        if data.kind != "image":
            raise NetprobeError(f"{self.name} is an evaluation of images, not of {data.kind}s such as {data.name}")
        makers = (self._noises, self._transfers, self._boundaries, self._corruptions, self._white_box)
        found: dict[str, Callable] = {}
        for part, make in zip(PARTS, makers, strict=True):
            found |= make(data, surrogates) if part in self.parts else {}
        return found

    def _noises(self, data: Data, surrogates: Mapping[str, nn.Module]) -> dict[str, Callable]:
        kinds = ("gaussian", "uniform", "salt-and-pepper")
        swept = (sweep(kind, eps=self._strengths(kind.replace("-", "_"), data)) for kind in kinds)
        return {name: each for one in swept for name, each in one.items()}

    def _transfers(self, data: Data, surrogates: Mapping[str, nn.Module]) -> dict[str, Callable]:
        if not surrogates:
            left = ":".join(part for part in self.parts if part != "transfer")
            raise NetprobeError(
                f"{self.name} transfers FGSM from a surrogate, and there is none: give a network of the same kind, "
                "trained on the same data with another seed (--surrogate NAME=MODEL), or leave the row out: "
                f"{self.name}:parts={left}"
            )
        return dict(transfers(sweep(FGSM.name, eps=self._strengths("fgsm", data)), surrogates))

    def _boundaries(self, data: Data, surrogates: Mapping[str, nn.Module]) -> dict[str, Callable]:
        return {
            f"boundary {steps} steps-{repeat}": Boundary(steps=steps, away_from="prediction")
            for steps in self.boundary_steps
            for repeat in range(1, self.repeats + 1)
        }

    def _corruptions(self, data: Data, surrogates: Mapping[str, nn.Module]) -> dict[str, Callable]:
        fitting = [name for name in BENCHMARK if data.shape[0] in CORRUPTIONS[name].channels]
        return dict(corruptions(self.severities, fitting))

    def _white_box(self, data: Data, surrogates: Mapping[str, nn.Module]) -> dict[str, Callable]:
        swept = sweep(APGD.name, eps=self._largest("white_box", data))
        return {f"white-box {name}": attack for name, attack in swept.items()}

    def _strengths(self, kind: str, data: Data) -> list[float]:
        """Above 0, at which there are the clean images."""
        return np.linspace(0, self._largest(kind, data), self.points)[1:].tolist()

    def _largest(self, kind: str, data: Data) -> Any:
        own = getattr(self, kind)
        return getattr(RANGES[self._like(data)], kind) if own is None else own

    def _like(self, data: Data) -> str:
        """Whose ranges these data have."""
        if self.ranges != "auto":
            return self.ranges
        name = re.sub("[^a-z0-9]", "", data.name.lower())
        for part, like in ALIKE.items():
            if part in name:
                return like
        raise NetprobeError(
            f"{self.name} knows no strengths for data called {data.name!r}: say which are like them, "
            f"{self.name}:ranges=NAME with NAME one of {', '.join(RANGES)}"
        )


PRESETS = Enrolled("preset", Preset, (BlackBox,))
_KIND = Catalogue("evaluation preset", Preset, PRESETS, "black-box:boundary_steps=5000")


def preset(
    spec: str | Preset,
    models: nn.Module | Mapping[str, nn.Module],
    data: Data | Any,
    surrogates: nn.Module | Mapping[str, nn.Module] | None = None,
) -> dict[str, Callable]:
    """The perturbations of a whole evaluation, by name, for `evaluate(models, data, preset(...))`.

    spec         such as "black-box", "black-box:parts=boundary,boundary_steps=5000,repeats=1", or a `BlackBox`
    models       those that are to be evaluated
    data         as for `evaluate`: strengths and corruptions depend on it
    surrogates   what transferred attacks are made against, one or several by name: networks like the models, trained
                 with other seeds

    Errors: a surrogate with the weights of a model, which would be attacked white-box; none where one is needed; data
    whose strengths are not known.
    """
    chosen, known = _KIND.parse(spec), {} if surrogates is None else named_models(surrogates)
    _refuse_twins(known, named_models(models))
    return chosen.conditions(data if isinstance(data, Data) else load_data(data), known)


def _refuse_twins(surrogates: Mapping[str, nn.Module], models: Mapping[str, nn.Module]) -> None:
    """However they are wrapped: by their parameters alone."""
    weights = {_weights(model): name for name, model in models.items()}
    for name, surrogate in surrogates.items():
        twin = weights.get(_weights(surrogate))
        if twin is not None:
            raise NetprobeError(
                f"the surrogate {name!r} has the weights of {twin!r}: what is made against it is a white-box attack on "
                f"{twin!r}, and a comparison with others would not be fair. Give a network trained with another seed"
            )


def _weights(model: nn.Module) -> tuple[str, ...]:
    return tuple(sorted(map(fingerprint, model.parameters())))
