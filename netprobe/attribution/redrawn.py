"""A model with its last weight matrix drawn anew: the control for what a measurement owes to training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import nn
from torch.func import functional_call

from netprobe.errors import NetprobeError
from netprobe.sites import Site


def last_weight_redrawn(
    model: nn.Module, sites: Sequence[Site], times: int, seed: int = 0
) -> Iterator[Callable[..., object]]:
    """`times` forward passes of `model`, each with another draw of the weight matrix that is used last.

    Entries are independent and normal with the variance of the trained ones (1 if they are all alike). The
    model keeps its weights; its hooks run. `sites` say what is used last. Raises NetprobeError without any.
    """
    name = _last_weight(model, sites)
    weight = model.get_parameter(name)
    spread = weight.std().item() or 1.0
    generator = torch.Generator().manual_seed(seed)
    for _ in range(times):
        drawn = spread * torch.randn(weight.shape, generator=generator)
        yield partial(functional_call, model, {name: drawn.to(weight)})


def _last_weight(model: nn.Module, sites: Sequence[Site]) -> str:
    for site in reversed(sites):
        weight = getattr(model.get_submodule(site.module), "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim > 1:
            return f"{site.module}.weight".removeprefix(".")
    raise NetprobeError(f"{type(model).__name__} has no weight matrix that could be drawn anew")
