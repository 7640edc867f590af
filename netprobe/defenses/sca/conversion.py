"""Which layers of a network can be made self-consistent, and a copy of it in which one is."""

from __future__ import annotations

import copy
import logging
from typing import Any

from torch import fx, nn

from netprobe.defenses.rectifiers import is_rectifier
from netprobe.defenses.sca.layers import SCAConv2d, SCALinear, SelfConsistent
from netprobe.errors import NetprobeError, unknown
from netprobe.models import Normalized
from netprobe.perturb.attack_copy import trace

logger = logging.getLogger(__name__)

LAYERS = {nn.Linear: SCALinear, nn.Conv2d: SCAConv2d}


def convert(model: nn.Module, layer: str | None = None, *, patch: int = 1, **settings: Any) -> nn.Module:
    """A copy of `model` in which the layer of that name is `SCALinear` or `SCAConv2d`, with its W and b.

    Parameters
    ----------
    model : any network; it stays as it is.
    layer : a linear layer or a convolution that a ReLU follows, by its name in `model.named_modules()`; None: the first
        that runs. The ReLU stays where it is, in whatever form: after phi(s_T) >= 0 it changes nothing.
    patch : of a convolution, see `SCAConv2d`.
    settings : steps, eta, lam, cap, dropout, checkpoint.

    Where torch.fx cannot follow the network, the layer must be named, and what follows it is taken on trust.

    >>> import torch
    >>> from netprobe import models
    >>> from netprobe.defenses import sca
    >>> net = sca.convert(models.mlp(hidden=32), steps=4)
    >>> net.linear1
    SCALinear(in_features=64, out_features=32, bias=True, steps=4, eta=0.25, lam=0.3, cap=10, dropout=0)
    """
    model = copy.deepcopy(model)
    name = _chosen(model, layer)
    old = model.get_submodule(name)
    new = SCALinear(old, **settings) if isinstance(old, nn.Linear) else SCAConv2d(old, patch=patch, **settings)
    model.set_submodule(name, new.train(old.training))
    return model


def self_consistent(model: nn.Module, name: str | None = None) -> tuple[str, SelfConsistent]:
    """The self-consistent layer of `model`, the first unless it is named, and its name."""
    found = {path: module for path, module in model.named_modules() if isinstance(module, SelfConsistent)}
    if not found:
        raise NetprobeError(
            f"a {type(model).__name__} has no self-consistent layer: train one with fit('sca', ...), or sca.convert it"
        )
    if name is not None and name not in found:
        raise unknown("self-consistent layer", name, found)
    return (name, found[name]) if name is not None else next(iter(found.items()))


def candidates(model: nn.Module) -> list[str] | None:
    """The linear layers and convolutions whose output a ReLU alone reads, in run order; None if fx cannot tell."""
    graph = _graph(model)
    if graph is None:
        return None
    modules = dict(model.named_modules())
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    return [
        node.target
        for node in graph.nodes
        if node.op == "call_module"
        and type(modules[node.target]) in LAYERS
        and calls.count(node.target) == 1
        and [is_rectifier(user, model) for user in node.users] == [True]
    ]


def _chosen(model: nn.Module, layer: str | None) -> str:
    there = [name for name, module in model.named_modules() if type(module) in LAYERS]
    if isinstance(model, Normalized) and layer is not None and layer not in there:
        layer = f"net.{layer}"  # as its site is called
    if layer is not None and layer not in there:
        raise unknown("linear layer or convolution", layer, there)
    fitting = candidates(model)
    if fitting is None and layer is not None:
        logger.warning(
            "torch.fx cannot follow %s: that a ReLU follows %s is taken on trust", type(model).__name__, layer
        )
        return layer
    if fitting is None:
        raise NetprobeError(
            f"torch.fx cannot follow a {type(model).__name__}, so say which hidden layer is to be self-consistent, "
            f"layer=NAME: one of {', '.join(there) or 'none that there is'}"
        )
    if not fitting or layer not in (None, *fitting):
        raise NetprobeError(
            f"{layer or 'no layer'} of this {type(model).__name__} is a linear layer or convolution that a ReLU, and "
            f"nothing else, reads; such are: {', '.join(fitting) or 'none'} (of {', '.join(there) or 'no layers'})"
        )
    return layer or fitting[0]


def _graph(model: nn.Module) -> fx.Graph | None:
    try:
        return trace(model).graph
    except Exception as error:  # whatever a stranger's forward raises when it meets a placeholder
        logger.info("torch.fx cannot follow %s: %s", type(model).__name__, error)
        return None
