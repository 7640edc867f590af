"""Everything that the units of a sweep share, and how one of them is computed and kept."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from netprobe.data import Data
from netprobe.defenses import Defense
from netprobe.recipes import Recipe
from netprobe.store import versions
from netprobe.store.fingerprint import fingerprint
from netprobe.training.fitting import fit
from netprobe.training.partial.layers import layers_of
from netprobe.training.partial.measuring import measure
from netprobe.training.partial.records import read_record, write_record
from netprobe.training.partial.splitting import Split, fresh, split
from netprobe.training.partial.units import Cell, Unit, Whole
from netprobe.training.tally import Diverged
from netprobe.training.trained import Trained

FORMAT = 1
"""To be raised whenever the numbers of a unit change their meaning: kept units are then computed again."""

COMPUTING = ("netprobe-torch", "torch")
"""The packages whose versions decide what training gives."""

BESIDE = {"seed", "save_every", "keep_epochs"}
"""Settings of a recipe that are not the sweep's to keep: a unit has a seed of its own, and saving changes nothing."""


@dataclass(frozen=True, eq=False)
class Study:
    """A network, how it is trained naturally and adversarially, the attack it is tested under, and a folder.

    cells/     the result of each unit, under its name and key
    training/  checkpoints: stage 1 stays, since all cells begin with it; stage 2 goes once it is measured, unless
               `keep_models`
    claims/    locks
    """

    model: nn.Module
    train: Data
    test: Data
    trainings: dict[str, Defense]
    recipe: Recipe
    attack: Callable[..., Tensor]
    folder: Path
    device: str | None = None
    batch_size: int | None = None
    keep_models: bool = False
    progress: bool = True

    def place(self, kind: str, unit: Unit) -> Path:
        """Where "cells", "training" or "claims" of a unit are; the name holds a part of the key."""
        key = self.training_key(unit) if kind == "training" else self.key(unit)
        return self.folder / kind / f"{unit.label}-{key[:12]}"

    def result(self, unit: Unit) -> dict[str, Any] | None:
        """What is kept of a unit: see `measure`, and "trainable_parameters", "findings", "seconds"; None if nothing."""
        return read_record(self._file(unit), self.key(unit))

    def ready(self, unit: Unit) -> bool:
        """Whether what the unit begins with is there."""
        return isinstance(unit, Whole) or self.result(unit.stage1) is not None

    def compute(self, unit: Unit) -> None:
        """Train, measure and keep. Killed at any moment it goes on from there the next time."""
        began = time.perf_counter()
        found = self._measured(unit) | {"unit": unit.label, "trainable_parameters": self._trainable(unit)}
        write_record(self._file(unit), self.key(unit), found | {"seconds": time.perf_counter() - began})
        if isinstance(unit, Cell) and not self.keep_models:
            shutil.rmtree(self.place("training", unit), ignore_errors=True)

    def _measured(self, unit: Unit) -> dict[str, Any]:
        """Stage 2 that diverges is a result, too: one without numbers."""
        try:
            trained = self.trained(unit)
        except Diverged as error:
            if isinstance(unit, Whole):
                raise
            return {"images": 0, "findings": [f"diverged: {error}"]}
        numbers = measure(trained.model, self.test, self.attack, seed=unit.seed, batch=self.batch_size)
        return numbers | {"findings": list(trained.findings)}

    def _trainable(self, unit: Unit) -> int:
        layers = layers_of(self.model)
        anew = range(len(layers)) if isinstance(unit, Whole) else unit.code.retrained(unit.cutoff, len(layers))
        return sum(layers[at].parameters for at in anew)

    def trained(self, unit: Unit) -> Trained:
        """The network that a unit gives: trained, or read where it was trained before."""
        if isinstance(unit, Whole):
            return self._fit(unit, unit.training, fresh(self.model, unit.seed), unit.seed)
        ready = self.split(unit)
        trained = self._fit(unit, ready.training, ready.model, unit.stage2_seed)
        ready.check_frozen(trained.model)
        return trained

    def split(self, unit: Cell) -> Split:
        """Where stage 2 of a cell begins."""
        return split(self.trained(unit.stage1).model, unit.code, unit.cutoff, seed=unit.stage2_seed)

    def _fit(self, unit: Unit, way: str, model: nn.Module, seed: int) -> Trained:
        return fit(
            self.trainings[way],
            model,
            self.train,
            self.recipe.with_settings(seed=seed),
            out=self.place("training", unit),
            device=self.device,
            progress=self.progress and self.result(unit) is None,
            name=unit.label,
        )

    def _file(self, unit: Unit) -> Path:
        place = self.place("cells", unit)
        return place.with_name(f"{place.name}.json")

    def training_key(self, unit: Unit) -> str:
        """Of everything that the weights of a unit depend on, but for the device."""
        if unit not in self._training_keys:
            self._training_keys[unit] = self._made_training_key(unit)
        return self._training_keys[unit]

    def _made_training_key(self, unit: Unit) -> str:
        if isinstance(unit, Whole):
            return fingerprint([self._shared, fresh(self.model, unit.seed), unit.seed, self.trainings[unit.training]])
        stage2 = [unit.code.frozen, unit.cutoff, self.trainings[unit.code.stage2], unit.stage2_seed]
        return fingerprint([self.training_key(unit.stage1), stage2])

    def key(self, unit: Unit) -> str:
        """Of everything that the result of a unit depends on, but for the device."""
        return sha256(f"{self.training_key(unit)}{self._tested}".encode()).hexdigest()

    @cached_property
    def _training_keys(self) -> dict[Unit, str]:
        return {}

    @cached_property
    def _shared(self) -> str:
        own = {name: version for name, version in versions().items() if name in COMPUTING}
        recipe = {name: value for name, value in dataclasses.asdict(self.recipe).items() if name not in BESIDE}
        return fingerprint([FORMAT, own, recipe, self.train.hash])

    @cached_property
    def _tested(self) -> str:
        return fingerprint([self.attack, self.test.hash])
