"""Go through the units of work: what is kept already is read, the rest is computed and kept at once."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.devices import batch_size, device_of
from netprobe.evaluation.archive import Archive
from netprobe.evaluation.conditions import Condition
from netprobe.evaluation.outcomes import BLANKS, Outcome, evaluated
from netprobe.fourier.spectra import FourierSpectrum
from netprobe.guard import full_precision, undisturbed
from netprobe.perturb.randomness import stream_seed
from netprobe.settings import EvaluateSettings
from netprobe.store import versions
from netprobe.store.fingerprint import fingerprint

FORMAT = 2
"""To be raised whenever the numbers of a unit change their meaning: kept units are then computed again."""


class Table:
    """The outcomes of one model under one condition: a row for each image of the data, blank where not evaluated."""

    def __init__(self, images: int) -> None:
        self.done = np.zeros(images, dtype=bool)
        self.columns = {name: np.full(images, blank) for name, blank in BLANKS.items()}
        self.seconds = 0.0
        self._spectra: dict[int, FourierSpectrum] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def fill(self, positions: np.ndarray, outcome: Outcome) -> None:
        self.done[positions] = True
        self.seconds += outcome.seconds
        for name, values in outcome.values.items():
            self.columns[name][positions] = values
        if outcome.spectrum is not None:
            self._spectra[int(positions[0])] = outcome.spectrum

    @property
    def spectrum(self) -> FourierSpectrum | None:
        """Of the perturbations of all images; None if some are missing or if it was not asked for.

        Chunks are added in the order of the images, so that its rounding does not tell of an interruption.
        """
        if not self._spectra or not self.done.all():
            return None
        return functools.reduce(
            FourierSpectrum.merge, (self._spectra[k] for k in sorted(self._spectra)), FourierSpectrum()
        )


class Runner:
    """Computes outcomes of models under conditions, chunk by chunk of images, or finds them in the archive.

    A chunk is a unit of work. Its key is a hash of everything its outcome depends on: model, perturbation, images with
    their labels and positions, seed, batch size, precision, kind of device, and the versions of what computes. So a
    kept unit is used exactly where computing it again would give the same.
    """

    def __init__(self, models: Mapping[str, nn.Module], data: Data, archive: Archive, chosen: EvaluateSettings) -> None:
        self.data, self.archive, self.chosen = data, archive, chosen
        self.models = models
        self.prints = {name: fingerprint(model) for name, model in models.items()}
        self._moved: dict[str, nn.Module] = {}
        self._hashes: dict[bytes, str] = {}

    def device(self, name: str) -> torch.device:
        return torch.device(self.chosen.device) if self.chosen.device else device_of(self.models[name])

    def batch(self, name: str) -> int:
        return self.chosen.batch_size or batch_size(self.data.shape, 1, self.device(name))

    def placed(self, name: str) -> nn.Module:
        """The model where it is to run: itself, or a copy, the user's being left where it is."""
        model, device = self.models[name], self.device(name)
        if device_of(model) == device:
            return model
        if name not in self._moved:
            self._moved[name] = copy.deepcopy(model).to(device)
        return self._moved[name]

    def chunks(self, name: str, positions: Sequence[int]) -> list[np.ndarray]:
        """The images of each unit of work: neighbours, so many that a device is busy for a while."""
        size = self.chosen.chunk or 4 * self.batch(name)
        return [np.asarray(positions[start : start + size]) for start in range(0, len(positions), size)]

    def kept(self, name: str, condition: Condition, positions: np.ndarray) -> Outcome | None:
        """The outcome of one chunk if it is in the archive."""
        return self.archive.get(self._key(name, condition, positions))

    def outcome(self, name: str, condition: Condition, positions: np.ndarray, bar: tqdm) -> Outcome:
        """Of one chunk, from the archive or computed."""
        key = self._key(name, condition, positions)
        found = self.archive.get(key)
        if found is None:
            bar.set_description(f"{name}, {condition.name}")
            found = self._computed(name, condition, positions, Exactly(len(positions), bar.update))
            self.archive.put(key, found)
        return found

    def _key(self, name: str, condition: Condition, positions: np.ndarray) -> str:
        content = {
            "format": FORMAT,
            "versions": versions(),
            "model": self.prints[name],
            "perturbation": fingerprint(condition.perturbation),
            "stream": stream_seed(self.chosen.seed, condition.name),
            "images": self._hash(positions),
            "positions": positions.tolist(),
            "batch size": self.batch(name),
            "gradients": self.chosen.gradients,
            "device": self.device(name).type,
        } | ({"spectra": True} if self._spectra(condition) else {})
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _spectra(self, condition: Condition) -> bool:
        return self.chosen.spectra and condition.spectral and self.data.kind == "image"

    def _hash(self, positions: np.ndarray) -> str:
        """Of the images and labels at these positions."""
        place = positions.tobytes()
        if place not in self._hashes:
            self._hashes[place] = self.data.select(positions).hash
        return self._hashes[place]

    def _computed(self, name: str, condition: Condition, positions: np.ndarray, advance: Exactly) -> Outcome:
        model, device = self.placed(name), self.device(name)
        (chunk,) = self.data.select(positions).batches(len(positions), device)
        x = chunk.x.to(next((p.dtype for p in model.parameters()), chunk.x.dtype))
        with ExitStack() as quiet:
            quiet.enter_context(full_precision())
            for each in (model, *_models_inside(condition.perturbation)):
                quiet.enter_context(undisturbed(each))
            outcome = evaluated(
                condition,
                model,
                x,
                chunk.y,
                torch.as_tensor(positions),
                seed=stream_seed(self.chosen.seed, condition.name),
                batch_size=self.batch(name),
                gradients=self.chosen.gradient_dtype,
                spectra=self._spectra(condition),
                advance_bar=advance,
            )
        advance.finish()
        return outcome


class Exactly:
    """Advances a bar by so many images in all, whatever an attack reports on the way."""

    def __init__(self, images: int, update: Callable[[int], object]) -> None:
        self.left, self.update = images, update

    def __call__(self, images: int) -> None:
        step = max(min(images, self.left), 0)
        self.left -= step
        self.update(step)

    def finish(self) -> None:
        self(self.left)


def _models_inside(perturbation: object) -> Iterator[nn.Module]:
    """Models that a perturbation holds, such as the surrogate of a transfer attack."""
    return (value for value in getattr(perturbation, "__dict__", {}).values() if isinstance(value, nn.Module))
