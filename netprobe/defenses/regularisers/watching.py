"""Watching the forward passes that the loss of a defense makes of the network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.outputs import logits_of
from netprobe.sites import Site, listening


@dataclass(eq=False)
class Pass:
    """One forward pass: its logits, and tensors by the names of sites.

    `values` are copies in the graph, which no in-place operation downstream can change; `variables` the tensors
    themselves, which other tensors of the pass depend on, and the `versions` that they had.
    """

    logits: Tensor | None = None
    values: dict[str, Tensor] = field(default_factory=dict)
    variables: dict[str, Tensor] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse variables that were overwritten: nothing depends any more on what they were."""
        for name, tensor in self.variables.items():
            if tensor._version != self.versions[name]:
                raise NetprobeError(
                    f"what is at {name!r} is overwritten in place later on, so nothing can be differentiated with "
                    "respect to it: build the network with inplace=False, or choose another wrt"
                )


class Watch:
    """Keeps the passes in which the network learns.

    Those of training attacks, in which no parameter requires a gradient, are let go at once.
    """

    def __init__(self, model: nn.Module, sites: Iterable[Site], variables: Iterable[Site]) -> None:
        self.model = model
        self.sites, self.variables = {s.name: s for s in sites}, {s.name: s for s in variables}
        self.passes: list[Pass] = []
        self._now: Pass | None = None

    def begin(self, _module: nn.Module, args: tuple) -> tuple | None:
        """A pass begins; where derivatives will be asked for, its input becomes a variable."""
        self._now = None
        if not (torch.is_grad_enabled() and any(p.requires_grad for p in self.model.parameters())):
            return None
        self._now = Pass()
        self.passes.append(self._now)
        x, *rest = args
        if not self.variables or x.requires_grad:
            return None
        return (x.detach().requires_grad_(), *rest)

    def take(self, site: Site, tensor: Tensor) -> None:
        """The tensor of a site has been made."""
        if self._now is None:
            return
        if site.name in self.sites:
            self._now.values[site.name] = tensor.clone()
        if site.name in self.variables:
            self._now.variables[site.name], self._now.versions[site.name] = tensor, tensor._version

    def end(self, _module: nn.Module, _args: tuple, output: object) -> None:
        """A pass ends."""
        if self._now is not None:
            self._now.logits = logits_of(output)

    def of(self, logits: Tensor) -> Pass:
        """The pass that these logits came from."""
        for made in self.passes:
            if made.logits is logits:
                made.check()
                return made
        raise NetprobeError(
            "the loss is not made of logits of the whole network in this stage of training, so that its sites cannot "
            "be regularised; l2 and spectral-norm, which look at weights alone, can be"
        )


@contextlib.contextmanager
def watching(model: nn.Module, sites: Iterable[Site], variables: Iterable[Site]) -> Iterator[Watch]:
    """Inside, the passes of `model` are watched at `sites`, and at `variables` to differentiate with respect to."""
    watch = Watch(model, sites, variables)
    every = {site.name: site for site in (*watch.sites.values(), *watch.variables.values())}
    if not every:
        yield watch
        return
    with listening(model, list(every.values()), watch.take):
        handles = [
            model.register_forward_pre_hook(watch.begin, prepend=True),  # before the site "input" is heard
            model.register_forward_hook(watch.end),
        ]
        try:
            yield watch
        finally:
            for handle in handles:
                handle.remove()
