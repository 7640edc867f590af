"""The derivative of a network's activations with respect to its input, as a linear map: J v and J^T u, image by image.

One forward and one backward pass make a graph in which both directions are backward passes: u -> J^T u is linear in u,
so that its own derivative along v is J v. Needs no forward-mode rules, which many operations lack.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.sites import Site, listening

INPUT = "input"


class LocalMap:
    """J = d a / d x of one site at the inputs of a batch, `a` (N, ...) computed from `x` (N, ...) in one graph.

    Every image has its own J: images must not notice one another, as in eval mode. Vectors are (N, units) and (N,
    values of x), or with several at a time (K, N, ...). Where `a` does not depend on `x`, J is 0.
    """

    def __init__(self, a: Tensor, x: Tensor) -> None:
        self.a, self.x = a.flatten(1), x
        self.units, self.values = self.a.shape[1], x[0].numel()
        self._u = torch.zeros_like(self.a, requires_grad=True)
        self._pulled: Tensor | None = None

    def backward(self, u: Tensor) -> Tensor:
        """J^T u of every image: (..., N, units) -> (..., N, values)."""
        return self._along(self.a, self.x, u).flatten(u.ndim - 1)

    def forward(self, v: Tensor) -> Tensor:
        """J v of every image: (..., N, values) -> (..., N, units)."""
        if self._pulled is None:
            self._pulled = self._along(self.a, self.x, self._u, create_graph=True).flatten(1)
        return self._along(self._pulled, self._u, v)

    def _along(self, output: Tensor, source: Tensor, vectors: Tensor, create_graph: bool = False) -> Tensor:
        """The gradient of `output` with respect to `source` along `vectors`; zeros where there is none."""
        lead = vectors.shape[:-2]
        zeros = source.new_zeros(*lead, *source.shape)
        if not output.requires_grad:
            return zeros
        options = {"retain_graph": True, "create_graph": create_graph, "allow_unused": True}
        (found,) = torch.autograd.grad(output, source, vectors, is_grads_batched=bool(lead), **options)
        return zeros if found is None else found


@contextlib.contextmanager
def entering(model: nn.Module, site: Site | None, x: Tensor) -> Iterator[Tensor]:
    """The tensor that the network is differentiated by: x itself, or what `site` puts out, cut off from what is before.

    Inside, a forward pass on x reads that tensor, a leaf of the graph, wherever it would read the site's output.
    """
    if site is None:
        yield x.detach().clone().requires_grad_()
        return
    if site.where != "output" or site.part or site.call:
        raise NetprobeError(f"wrt={site.name!r}: name a module that is called once and returns one tensor")
    met: list[Tensor] = []
    with torch.no_grad(), listening(model, [site], lambda _, tensor: met.append(tensor.detach().clone())):
        model(x)
    leaf = met[0].requires_grad_()
    shown = leaf if site.batch_axis == 0 else leaf.movedim(0, site.batch_axis)
    hook = model.get_submodule(site.module).register_forward_hook(lambda *_: shown.clone())
    try:
        yield leaf
    finally:
        hook.remove()


@dataclass(frozen=True, eq=False)
class Linearised:
    """A forward pass: what it is differentiated by, what the network returned, and the maps by the names of sites."""

    source: Tensor
    output: object
    maps: dict[str, LocalMap]

    def __getitem__(self, site: str) -> LocalMap:
        return self.maps[site]


@contextlib.contextmanager
def linearised(
    model: nn.Module, sites: Sequence[Site], x: Tensor, source: Site | None = None, at: Tensor | None = None
) -> Iterator[Linearised]:
    """The `LocalMap` of every site at the batch x (N, ...), by its name, from one forward pass.

    `source` is what to differentiate by, None the input; `at` (N, ...) are other values for it than those at x. A site
    that never sees `source` has J = 0.
    """
    met: dict[str, Tensor] = {}
    with torch.inference_mode(False), torch.enable_grad(), entering(model, source, x) as leaf:
        if at is not None:
            leaf.data.copy_(at)
        # cloned: what comes next may write into the tensor, and models into their input
        with listening(model, list(sites), lambda site, tensor: met.setdefault(site.name, tensor.clone())):
            output = model((leaf if source is None else x).clone())
        yield Linearised(leaf, output, {site.name: LocalMap(met[site.name], leaf) for site in sites})
