"""Backward passes of their own for layers whose true gradient says nothing: quantisers, thresholds, sampling (BPDA).

Any module can declare one, by a method

    def backward_surrogate(self) -> ContextManager

that every gradient attack enters for as long as it works on the model. Inside, the module computes what it always does,
but in a way whose gradient is useful. `BackwardPass` does so for a module one cannot or will not change.

A module that knows several such ways names them in `backward_passes`, the strongest first, and takes a name:

    backward_passes: tuple[str, ...]
    def backward_surrogate(self, name: str | None = None) -> ContextManager

Attacks that look for errors try all of them, so that no evaluation rests on a single guess.

A layer without children, of which nothing outside asks what it is to do, may say `stands_alone = True`: attacks may
then fold batch norms of the network around it (`attack_copy`), which they otherwise leave as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from netprobe.errors import unknown


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
        return in_gradient(exact, self.surrogate(x))

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


def in_gradient(exact: Tensor, surrogate: Tensor) -> Tensor:
    """`exact` in value, to the last bit, and `surrogate` in gradient; both of one shape."""
    return _Replaced.apply(exact, surrogate)


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
def surrogates(model: nn.Module, name: str | None = None) -> Iterator[None]:
    """Inside, every module of `model` that declares a backward pass of its own uses it: the one called `name`, or its
    first where it has none of that name.

    Errors: a name that none of the modules knows. A model that declares none has its true gradient whatever the name.
    """
    known = declared_passes(model)
    if name is not None and known and name not in known:
        raise unknown("backward pass", name, known)
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if hasattr(module, "backward_surrogate"):
                chosen = [name] if name in getattr(module, "backward_passes", ()) else []
                stack.enter_context(module.backward_surrogate(*chosen))
        yield


def stands_alone(module: nn.Module) -> bool:
    """Whether the network around a module that declares backward passes may be traced."""
    return bool(getattr(module, "stands_alone", False)) and not any(module.children())


def declared_passes(model: nn.Module) -> tuple[str, ...]:
    """The names of all backward passes that modules of `model` declare, each once."""
    names = (name for module in model.modules() for name in getattr(module, "backward_passes", ()))
    return tuple(dict.fromkeys(names))
