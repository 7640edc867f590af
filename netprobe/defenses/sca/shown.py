"""What an analysis of a network is shown: images clean, and perturbed for that network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn
from tqdm.auto import tqdm

from netprobe.data import Batch, Data
from netprobe.defenses.sca.layers import SelfConsistent
from netprobe.devices import batch_size, device_of
from netprobe.errors import NetprobeError
from netprobe.perturb import ImageGenerator, resolve

CLEAN = "clean"
Perturbations = Mapping[str, str | Callable]


def shown(
    model: nn.Module, data: Data, perturbations: Perturbations | None, seed: int, bar: tqdm
) -> Iterator[tuple[str, Batch]]:
    """Batches of `data` on the model's device with the name of their condition, "clean" first.

    Perturbations are specs such as "pgd:eps=0.1", or callables; the noise of an image is told by `seed` and its place.
    """
    if CLEAN in (perturbations or {}):
        raise NetprobeError(f"no perturbation may be called {CLEAN!r}: that is what the images are without one")
    named = {CLEAN: None} | {name: resolve(each) for name, each in (perturbations or {}).items()}
    device = device_of(model)
    for name, perturbation in named.items():
        for batch in data.batches(batch_size(data.shape, 1, device), device):
            generator = ImageGenerator(seed, batch.index)
            perturbed = perturbation and perturbation(model, batch.x, batch.y, generator=generator)
            yield name, batch if perturbed is None else batch._replace(x=perturbed)
            bar.update(len(batch.x))


@contextlib.contextmanager
def at_steps(layer: SelfConsistent, steps: int) -> Iterator[None]:
    """Inside, T is `steps`."""
    before, layer.steps = layer.steps, steps
    try:
        yield
    finally:
        layer.steps = before


@contextlib.contextmanager
def putting_out(layer: nn.Module, output: torch.Tensor) -> Iterator[None]:
    """Inside, whatever reads the layer reads `output`."""
    hook = layer.register_forward_hook(lambda *_: output)
    try:
        yield
    finally:
        hook.remove()
