"""Which layer of a network can be learnt locally, and a copy of it in which one is."""

from __future__ import annotations

import copy

from torch import fx, nn

from netprobe.defenses.krotov_hopfield.layers import Local, LocalConv2d, LocalLinear
from netprobe.defenses.rectifiers import is_rectifier
from netprobe.errors import NetprobeError, unknown
from netprobe.models import Normalized
from netprobe.models.shallow import PowerReLU, rectifier
from netprobe.perturb.attack_copy import trace

LAYERS = {nn.Linear: LocalLinear, nn.Conv2d: LocalConv2d}
POWER = 4.5


def convert(
    model: nn.Module, layer: str | None = None, *, p: float = 3.0, power: float | None = None, attempts: int = 1
) -> nn.Module:
    """A copy of `model` in which the layer of that name is a `LocalLinear` or `LocalConv2d` with random weights.

    Parameters
    ----------
    model : any network that torch.fx can follow; it stays as it is.
    layer : a linear layer or a convolution by its name in `model.named_modules()`; None: the first that runs. Its bias
        goes, and everything that it reads from is frozen: it is learnt for that.
    p : of W^ = sign(W) |W|^(p - 1).
    power : n of the ReLU(h)^n behind it, which takes the place of a ReLU that alone reads the layer. None: 4.5 in place
        of a plain ReLU, while a `PowerReLU` keeps its own. 1 leaves what follows as it is.
    """
    model = copy.deepcopy(model)
    graph = _graph(model)
    node = _chosen(model, graph, layer)
    for module in _before(model, node):
        module.requires_grad_(False)
    old = model.get_submodule(node.target)
    model.set_submodule(node.target, LAYERS[type(old)].like(old, p, attempts))
    _raise(model, node, power)
    return model


def local_layer(model: nn.Module) -> tuple[str, LocalLinear | LocalConv2d]:
    """The first layer of `model` that the local rule is for, and its name."""
    for name, module in model.named_modules():
        if isinstance(module, Local):
            return name, module
    raise NetprobeError(
        f"a {type(model).__name__} has no locally learnt layer: train one with fit('krotov-hopfield', ...)"
    )


def without_bias(model: nn.Module) -> nn.Module:
    """`model`, the last linear layer of which loses its bias, in place."""
    *_, last = (module for module in model.modules() if type(module) is nn.Linear)
    last.bias = None
    return model


def _graph(model: nn.Module) -> fx.Graph:
    try:
        return trace(model).graph
    except Exception as error:  # whatever a stranger's forward raises when it meets a placeholder
        raise NetprobeError(
            f"torch.fx cannot follow a {type(model).__name__} ({error}), so that what comes before and after a layer "
            "is not known: give a network without control flow that looks at values"
        ) from error


def _chosen(model: nn.Module, graph: fx.Graph, layer: str | None) -> fx.Node:
    calls = [node for node in graph.nodes if node.op == "call_module"]
    fitting = {node.target: node for node in calls if type(model.get_submodule(node.target)) in LAYERS}
    if isinstance(model, Normalized) and layer is not None and layer not in fitting:
        layer = f"net.{layer}"  # as its site is called
    if not fitting:
        raise NetprobeError(f"a {type(model).__name__} has no linear layer and no convolution to learn")
    if layer is not None and layer not in fitting:
        raise unknown("linear layer or convolution", layer, fitting)
    node = fitting[layer] if layer is not None else next(iter(fitting.values()))
    if [call.target for call in calls].count(node.target) > 1:
        raise NetprobeError(f"{node.target} runs more than once, so it has no one input to learn from: choose another")
    if getattr(model.get_submodule(node.target), "groups", 1) > 1:
        raise NetprobeError(
            f"{node.target} is a convolution in groups, whose units see different inputs: choose another"
        )
    return node


def _before(model: nn.Module, node: fx.Node) -> list[nn.Module]:
    """The modules that the input of `node` is made by."""
    found, waiting = set(), list(node.all_input_nodes)
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += each.all_input_nodes
    modules = [(each.target, model.get_submodule(each.target)) for each in found if each.op == "call_module"]
    for name, module in modules:
        if getattr(module, "running_mean", None) is not None:
            raise NetprobeError(
                f"{name} comes before {node.target}, and its statistics change in training: learn an earlier layer"
            )
    return [module for _, module in modules]


def _raise(model: nn.Module, node: fx.Node, power: float | None) -> None:
    """Put ReLU(h)^power where a ReLU alone reads `node`."""
    users = list(node.users)
    reader = users[0] if len(users) == 1 and users[0].op == "call_module" else None
    own = None if reader is None else model.get_submodule(reader.target)
    if power == 1 and not isinstance(own, PowerReLU):
        return
    if power is None and isinstance(own, PowerReLU):
        return
    calls = [each.target for each in node.graph.nodes if each.op == "call_module"]
    if own is None or calls.count(reader.target) > 1 or not (isinstance(own, PowerReLU) or is_rectifier(reader, model)):
        raise NetprobeError(
            f"no nn.ReLU of its own, and nothing else, reads {node.target}, so ReLU(h)^{power or POWER:g} has no place "
            "there: write the activation as a module, or leave it as it is, power=1"
        )
    model.set_submodule(reader.target, rectifier(power or POWER).train(own.training))
