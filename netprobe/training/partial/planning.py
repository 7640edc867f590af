"""What a sweep is to do: the grid of its units, and the study that they share, every mistake in it found."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from netprobe import data as datasets
from netprobe import perturb
from netprobe.data import Data
from netprobe.defenses import Defense, describe_defense, parse_defense
from netprobe.devices import device_of, preferred_device
from netprobe.errors import NetprobeError
from netprobe.perturb import PGD
from netprobe.recipes import Recipe, preset
from netprobe.store import made_folder, model_card, versions
from netprobe.training.initial import architecture_of, check_fit, initial
from netprobe.training.partial.codes import ADVERSARIAL, MIXED, NATURAL, Code, parse_codes
from netprobe.training.partial.dataset import assembled
from netprobe.training.partial.layers import cutoffs_of, layers_of
from netprobe.training.partial.study import Study
from netprobe.training.partial.units import Unit, cells, wholes


@dataclasses.dataclass(frozen=True)
class Grid:
    """Codes, the cutoffs of each by its name, and seeds, of a study."""

    study: Study
    codes: list[Code]
    cutoffs: dict[str, list[int]]
    seeds: list[int]

    @property
    def units(self) -> list[Unit]:
        """All units of work, whole networks first."""
        return [*wholes(self.codes, self.seeds), *cells(self.codes, self.cutoffs, self.seeds)]

    def results(self) -> xr.Dataset:
        """What is known so far."""
        every = sorted({cutoff for own in self.cutoffs.values() for cutoff in own})
        counts = np.bincount(self.study.test.labels.numpy(), minlength=self.study.test.num_classes)
        layers = layers_of(self.study.model)
        data = assembled(self.codes, every, self.seeds, layers, counts.max() / counts.sum(), self.study.result)
        findings = {unit.label: kept["findings"] for unit in self.units if (kept := self.study.result(unit))}
        done = all(self.study.result(unit) is not None for unit in self.units)
        about = _provenance(self.study) | {"findings": {k: v for k, v in findings.items() if v}, "complete": done}
        return data.assign_attrs(title="partial adversarial training", provenance=json.dumps(about, sort_keys=True))


def grid_of(
    model: str | nn.Module,
    data: str | tuple[Data, Data],
    codes: str | Iterable[str | Code] = MIXED,
    cutoffs: str | Iterable[int | str] = "all",
    seeds: Iterable[int] = (0, 1, 2),
    *,
    out: str | Path,
    **settings: Any,
) -> Grid:
    """The grid of `sweep`, with every mistake in what is asked found, and nothing computed."""
    parsed, seeds = parse_codes(codes), _seeds(seeds)
    cutoffs = cutoffs if isinstance(cutoffs, str) else list(cutoffs)
    study = study_of(model, data, out, **settings)
    return Grid(study, parsed, {code.name: _cutoffs(study.model, code, cutoffs) for code in parsed}, seeds)


def _seeds(seeds: Iterable[int]) -> list[int]:
    every = list(seeds)
    if not every or len(set(every)) < len(every) or not all(isinstance(s, int) and s >= 0 for s in every):
        raise NetprobeError(f"seeds={every!r}: give different whole numbers, 0 or more, at least one")
    return every


def _cutoffs(model: nn.Module, code: Code, cutoffs: str | list[int | str]) -> list[int]:
    """Of one code: where a single layer is retrained the first layer counts too, and nothing is after the last."""
    found = cutoffs_of(model, cutoffs)
    if not code.single:
        return found
    asked = [0, *found] if cutoffs in ("all", "blocks") else found
    return [cutoff for cutoff in asked if cutoff < len(layers_of(model))]


def study_of(
    model: str | nn.Module,
    data: str | tuple[Data, Data],
    out: str | Path,
    *,
    natural: str | Defense = "natural",
    adversarial: str | Defense = "pgd-at",
    recipe: str | Recipe = "paper",
    test: str | Callable[..., Tensor] | None = None,
    device: str | torch.device | None = None,
    batch_size: int | None = None,
    keep_models: bool = False,
    progress: bool = True,
    **overrides: Any,
) -> Study:
    """What the units of a sweep share.

    natural, adversarial   the two ways to train, as `Defense` or spec; such as leave the network as it is
    recipe                 of both stages; a preset ("paper", "quick") without images held out, or a `Recipe` as it is;
                           `overrides` change single fields of it. The seed is that of the cell
    test                   the test attack; by default PGD-100 with steps of eps/8 in the ball of adversarial training
    device                 by default a GPU if there is one
    batch_size             test images at a time
    keep_models            keep the checkpoints of stage 2, too, under `out`/training
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise NetprobeError("a sweep is not for torchrun: start several processes with the same `out`, they share it")
    train, held = (datasets.load(data, part) for part in ("train", "test")) if isinstance(data, str) else data
    model = initial(model, train, seed=0)
    layers_of(model)
    check_fit(model, train, device_of(model))
    trainings = {NATURAL: _defense(natural, model), ADVERSARIAL: _defense(adversarial, model)}
    attack = _default_attack(trainings[ADVERSARIAL]) if test is None else perturb.resolve(test)
    chosen_device = device or preferred_device()
    folder = made_folder(out)
    plan = _recipe(recipe, trainings[ADVERSARIAL], model, train).with_settings(**overrides)
    return Study(model, train, held, trainings, plan, attack, folder, chosen_device, batch_size, keep_models, progress)


def _defense(given: str | Defense, model: nn.Module) -> Defense:
    defense = parse_defense(given)
    if defense.build(model) is not model:
        raise NetprobeError(f"{defense.name} changes the network itself, and so cannot train a part of it")
    return defense


def _default_attack(defense: Defense) -> PGD:
    ball = defense.validation_attack()
    if not isinstance(ball, PGD):
        raise NetprobeError(f"{defense.name} does not say how to test it: give test=, for example 'pgd:eps=8/255'")
    return dataclasses.replace(ball, steps=100, step_size=ball.eps / 8)


def _recipe(given: str | Recipe, defense: Defense, model: nn.Module, train: Data) -> Recipe:
    """Presets without images held out: the study takes the last epoch."""
    if isinstance(given, Recipe):
        return given
    return preset(given, defense, architecture_of(model), train.shape, validation=0.0)


def _provenance(study: Study) -> dict[str, Any]:
    recipe = {name: value for name, value in dataclasses.asdict(study.recipe).items() if name != "seed"}
    return {
        "versions": versions(),
        "data": study.test.describe(),
        "training data": study.train.describe(),
        "model": {name: value for name, value in model_card(study.model).items() if name != "sha256"},
        "trainings": {way: describe_defense(defense) for way, defense in study.trainings.items()},
        "recipe": recipe,
        "test attack": json.loads(json.dumps(perturb.describe(study.attack), default=repr)),
    }
