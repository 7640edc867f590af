"""Leave a model and the random state exactly as they were found, and no step half done."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

__all__ = ["undisturbed"]


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[nn.Module]:
    """`model` in eval mode with frozen parameters inside; afterwards everything is as before.

    Restored, also after an exception: the training flag of every module, `requires_grad` and `.grad` of every
    parameter, the value of every buffer, and the global random state of torch (all devices in use), numpy and Python.
    Hooks are the business of whoever registers them (`netprobe.sites.listening` removes its own).
    Cost: one copy of the buffers.
    """
    modes = [(module, module.training) for module in model.modules()]
    parameters = [(p, p.requires_grad, p.grad) for p in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    with _random_state(model):
        try:
            model.eval()
            model.requires_grad_(False)
            model.zero_grad(set_to_none=True)  # so that a backward pass inside cannot add to the user's gradients
            yield model
        finally:
            _restore(modes, parameters, buffers)


def _restore(modes: list, parameters: list, buffers: list) -> None:
    for module, training in modes:
        module.training = training
    for parameter, requires_grad, grad in parameters:
        parameter.requires_grad_(requires_grad)
        parameter.grad = grad
    with torch.no_grad():
        for module, name, buffer, value in buffers:
            setattr(module, name, buffer)  # a forward pass may have put another tensor there
            if not torch.equal(buffer, value):
                buffer.copy_(value)


@contextlib.contextmanager
def _random_state(model: nn.Module) -> Iterator[None]:
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=sorted(devices - {None})):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 and no autocast inside: at eps 8/255 TF32 alone moves a perturbation-to-signal ratio by percents."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


@contextlib.contextmanager
def undivided() -> Iterator[None]:
    """Let a Ctrl-C inside take effect at the end, so that what is inside happens wholly.

    Only the main thread gets a Ctrl-C, and only there a handler can be set.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    caught: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if caught:
        signal.raise_signal(signal.SIGINT)
