"""The state of mind in which attacks are made: eval mode, frozen parameters, gradients on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from netprobe.perturb.backward import surrogates


@contextlib.contextmanager
def frozen(model: nn.Module, backward: str | None = None) -> Iterator[None]:
    """`model` in eval mode, parameters frozen, autograd on, with the backward passes that its layers declare for
    attacks, or the one of that name (`perturb.backward`); every flag as before afterwards, also on errors.

    Works under `torch.no_grad` and `torch.inference_mode`. Unlike `netprobe.guard.undisturbed` it lets the
    global random state run on: restored, a randomised model would meet in its evaluation the very noise that
    the attack saw.
    """
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad(), surrogates(model, backward):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)
