"""Backward passes of their own for layers whose true gradient says nothing: quantisers, thresholds, sampling (BPDA).

Any module can declare one, by a method

    def backward_surrogate(self) -> ContextManager

that every gradient attack enters for as long as it works on the model. Inside, the module computes what it always does,
but in a way whose gradient is useful. `BackwardPass` does so for a module one cannot or will not change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


class BackwardPass(nn.Module):
    """`module`, with the gradient of `surrogate` while it is attacked: y = module(x), dy/dx = d surrogate(x) / dx.

    Parameters
    ----------
    module : any layer, (N, ...) -> (N, ...).
    surrogate : a differentiable function or module that maps x to the shape of y; None: the identity
        (straight-through).

    Outside of attacks, and in value always, it is `module`, to the last bit. Athalye, Carlini and Wagner, ICML 2018.
    """

    def __init__(self, module: nn.Module, surrogate: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.module = module
        self.surrogate = surrogate or nn.Identity()
        self.replaced = False

    def forward(self, x: Tensor) -> Tensor:
        if not (self.replaced and torch.is_grad_enabled()):
            return self.module(x)
        with torch.no_grad():
            exact = self.module(x)
        return _Replaced.apply(exact, self.surrogate(x))

    @contextlib.contextmanager
    def backward_surrogate(self) -> Iterator[None]:
        """Inside, gradients are the surrogate's."""
        before, self.replaced = self.replaced, True
        try:
            yield
        finally:
            self.replaced = before

    def extra_repr(self) -> str:
        return "" if isinstance(self.surrogate, nn.Module) else f"surrogate={self.surrogate!r}"


class _Replaced(torch.autograd.Function):
    """The first argument in value, the second in gradient."""

    @staticmethod
    def forward(ctx: object, exact: Tensor, surrogate: Tensor) -> Tensor:
        if exact.shape != surrogate.shape:
            raise ValueError(
                f"the backward surrogate gives shape {tuple(surrogate.shape)} where the module gives "
                f"{tuple(exact.shape)}: they must agree"
            )
        return exact.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


@contextlib.contextmanager
def surrogates(model: nn.Module) -> Iterator[None]:
    """Inside, every module of `model` that declares a backward pass of its own uses it."""
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if hasattr(module, "backward_surrogate"):
                stack.enter_context(module.backward_surrogate())
        yield
