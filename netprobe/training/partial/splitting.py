"""Freeze one part of a trained network and re-initialise the other: the state in which stage 2 begins."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from netprobe.devices import device_of
from netprobe.errors import NetprobeError
from netprobe.perturb.randomness import stream_seed
from netprobe.training.partial.codes import Code, parse_code
from netprobe.training.partial.layers import Layer, cutoff_at, layers_of


@dataclass(frozen=True)
class Split:
    """A network about to enter stage 2.

    `model` is in train mode; parameters of `frozen` layers have requires_grad=False, those of `retrained` layers are
    fresh; `training` is how stage 2 trains them.
    """

    model: nn.Module
    code: Code
    cutoff: int
    frozen: tuple[Layer, ...]
    retrained: tuple[Layer, ...]

    @property
    def training(self) -> str:
        """ "natural" or "adversarial"."""
        return self.code.stage2

    @property
    def trainable_parameters(self) -> int:
        """Numbers that stage 2 trains: the sum over the retrained layers."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def check_frozen(self, trained: nn.Module) -> None:
        """NetprobeError unless every frozen parameter of `trained`, the result of stage 2, has the same bytes still."""
        for layer in self.frozen:
            pairs = zip(_parameters(self.model, layer), _parameters(trained, layer), strict=True)
            if not all(torch.equal(before.cpu(), after.cpu()) for before, after in pairs):
                raise NetprobeError(f"training changed {layer.name}, which {self.code.name} keeps frozen")


def split(model: nn.Module, code: str | Code, cutoff: int | str, *, seed: int = 0) -> Split:
    """Make a copy of `model`, the network of stage 1, ready for stage 2.

    Retrained layers: parameters drawn anew by torch's own `reset_parameters` (Kaiming-uniform weights; batch norm
    scale 1, shift 0), requires_grad True, running statistics and batch counter reset. Frozen layers: parameters as
    they are, requires_grad False; their running statistics are neither reset nor frozen: the copy is in train mode
    as a whole, so in stage 2 they normalise by the batch and go on averaging, and must not be put in eval mode.

    Parameters
    ----------
    model : the trained network; left as found
    code : such as "A1N2", see `codes.Code`
    cutoff : how many layers are EARLY, or the name of the first LATE one; see `layers.cutoff_at`
    seed : of the fresh parameters. Those of a layer depend on the seed and its name alone, not on code or cutoff

    Returns a `Split`. Raises NetprobeError for an unknown code or cutoff.
    """
    code, layers = parse_code(code), layers_of(model)
    early = cutoff_at(model, cutoff)
    anew = code.retrained(early, len(layers))
    retrained = tuple(layers[at] for at in anew)
    frozen = tuple(layer for at, layer in enumerate(layers) if at not in anew)
    ready = _renewed(model, retrained, seed)
    for layer in frozen:
        ready.get_submodule(layer.path).requires_grad_(False)
    return Split(ready, code, early, frozen, retrained)


def fresh(model: nn.Module, seed: int) -> nn.Module:
    """A copy of `model` with all layers re-initialised and trainable, in train mode: where stage 1 begins.

    Both stages draw from the same distribution, whatever the constructor of the model does.
    """
    return _renewed(model, layers_of(model), seed)


def _renewed(model: nn.Module, layers: Iterable[Layer], seed: int) -> nn.Module:
    """A copy in train mode with these layers re-initialised, drawn on the CPU: the same on every device."""
    device = device_of(model)
    renewed = copy.deepcopy(model).cpu().train()
    with torch.random.fork_rng(devices=[]):
        for layer in layers:
            torch.default_generator.manual_seed(stream_seed(seed, layer.name))
            renewed.get_submodule(layer.path).requires_grad_(True).reset_parameters()
    return renewed.to(device)


def _parameters(model: nn.Module, layer: Layer) -> list[nn.Parameter]:
    return list(model.get_submodule(layer.path).parameters())
