"""Apply a perturbation to many images: the one way in which evaluations ask for it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from netprobe.perturb.attacked import Attacked, part_by_part
from netprobe.perturb.frozen import frozen
from netprobe.perturb.objective import predict
from netprobe.perturb.randomness import select
from netprobe.perturb.specs import apply


def attack(
    perturbation: Callable,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    generator: torch.Generator | None,
    slots: int = 64,
    gradients: torch.dtype | None = None,
    advance_bar: Callable[[int], object] = lambda images: None,
) -> Attacked:
    """Apply any perturbation to all of `x` (N, ...) with labels `y` (N,), `slots` images at a time.

    One that has a method `fool` (our attacks) does it its own way; `gradients` is the precision of its gradients (None:
    the model's). Any other is called batch by batch, and the model is asked about the result: `fooled` is whether it
    then predicts anything but the label. The passes of such a callable are counted as they happen, and shared alike by
    the images of its batch; its backward passes are not known, and given as -1.
    """
    if hasattr(perturbation, "fool"):
        return perturbation.fool(
            model, x, y, generator=generator, slots=slots, gradients=gradients, advance_bar=advance_bar
        )
    return part_by_part(
        lambda rows: _batch(perturbation, model, x[rows], y[rows], select(generator, rows)), x, slots, advance_bar
    )


def _batch(
    perturbation: Callable, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    with Count(model) as count:
        changed = apply(perturbation, model, x, y, generator=generator)
        with frozen(model):
            fooled = predict(model, changed).argmax(1) != y
    forwards = torch.full_like(y, -(-count.images // len(x)))
    return changed, fooled, forwards, torch.full_like(forwards, -1)


class Count:
    """Counts the images that go through a model while it is entered."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.images = model, 0

    def __enter__(self) -> Count:
        self._handle = self.model.register_forward_pre_hook(self._note, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _note(self, _model: nn.Module, args: tuple, kwargs: dict) -> None:
        self.images += len(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)))
