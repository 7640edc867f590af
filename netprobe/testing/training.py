"""Short trainings to check on, also ones that are killed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from netprobe.data import Data, load
from netprobe.recipes import Recipe
from netprobe.testing.law import demand
from netprobe.testing.samples import seeded
from netprobe.training import Trained, fit, loop

SHORT = Recipe(
    epochs=3,
    batch_size=16,
    lr=0.02,
    schedule="constant",
    validation=0.25,
    channels_last=False,
    save_every=0.0,
)
"""On 64 images, of which 16 are held out: three steps an epoch."""


def digits(images: int = 64) -> Data:
    """Handwritten digits."""
    return load("digits", "train", limit=images)


def small_net() -> nn.Module:
    """A convolution with batch norm and dropout, and a linear layer, for digits."""

    def build() -> nn.Module:
        convolution = nn.Conv2d(1, 6, 3, padding=1, stride=2)
        return nn.Sequential(
            convolution, nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(6 * 16, 10)
        )

    return seeded(build)


class Killed(Exception):
    """What ends a training inside `killed_after`."""


@contextlib.contextmanager
def killed_after(steps: int) -> Iterator[None]:
    """The training inside looks at the clock after every step, and ends with an error when so many are done.

    With `save_every=0` it saves whenever it looks, so that a file holds every step.
    """
    step, done = loop.Loop._step, []

    def counted(self: loop.Loop, batch: Tensor) -> None:
        if len(done) == steps:
            raise Killed
        done.append(step(self, batch))

    with mock.patch.object(loop, "LOOK_EVERY", 0.0), mock.patch.object(loop.Loop, "_step", counted):
        try:
            yield
        except Killed:
            return
    raise AssertionError(f"the training inside was over before step {steps + 1}")


def trained(defense: Any, model: str | nn.Module, data: Data, recipe: Recipe, **settings: Any) -> Trained:
    """`fit`, without a word."""
    return fit(defense, model, data, recipe, progress=False, **settings)


def demand_goes_on(moments: tuple[int, ...], whole: Trained, *given: Any, **settings: Any) -> None:
    """A training that is killed after so many steps and begun again ends with the bytes of the `whole` one."""
    for steps in moments:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "training"
            with killed_after(steps):
                trained(*given, out=out, **settings)
            again = trained(*given, out=out, **settings)
        demand_equal(again, whole, f"killed after {steps} steps and begun again")


def demand_equal(one: Trained, other: Trained, how: str) -> None:
    """The same weights, and the same history but for times."""
    for part in ("last", "model"):
        weights, wanted = (getattr(each, part).state_dict() for each in (one, other))
        moved = differing(weights, wanted)
        demand(not moved, f"{how}, {part} differs in {', '.join(moved[:4])}")
    for name in set(other.history.data_vars) - {"seconds", "images_per_second"}:
        same = name in one.history and one.history[name].equals(other.history[name])
        demand(same, f"{how}, {name!r} of the history differs")


def differing(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that are not the same to the last bit."""
    return [name for name in other if name not in one or not torch.equal(one[name], other[name])]
