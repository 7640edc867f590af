"""Where a network has a convolution with its batch norm and ReLU."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass

from torch import fx, nn

from netprobe.defenses.rectifiers import is_rectifier
from netprobe.perturb.attack_copy import trace

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """Paths of a convolution, of its batch norm (None: it has none), and of its ReLU, which comes before or after that.

    `relu` is None where the ReLU cannot be taken out: a function, or a module that is called elsewhere too.
    """

    conv: str
    norm: str | None
    relu: str | None


def find_groups(model: nn.Module, path: str = "") -> list[Group]:
    """Every convolution of `model` with a ReLU of its own, and its batch norm if it has one between or behind them.

    In run order, from a graph of the model's calls (torch.fx; nothing is computed). A group is a convolution whose
    output a ReLU alone reads, or a batch norm alone that a ReLU alone reads; convolution and batch norm are called
    once, and an nn.Identity in between does not matter. Where a module cannot be traced, its children are looked at
    one by one, so that groups inside an nn.Sequential are found there too. `path`: where in a larger one the model is.
    """
    inside = f"{path}." if path else ""
    try:
        graph = trace(model).graph
    except Exception as error:  # whatever a stranger's forward raises when it meets a placeholder
        logger.info("looking into the children of %s alone: %s", path or type(model).__name__, error)
        return [group for name, child in model.named_children() for group in find_groups(child, inside + name)]
    calls = _Calls(model, Counter(node.target for node in graph.nodes if node.op == "call_module"), inside)
    return [group for node in graph.nodes for group in calls.groups(node)]


def described(model: nn.Module, most: int = 12) -> str:
    """The layers of `model` without children, for messages: "conv1 Conv2d, pool1 MaxPool2d, ..."."""
    leaves = [f"{name} {type(m).__name__}" for name, m in model.named_modules() if name and not any(m.children())]
    return ", ".join(leaves[:most]) + (f", ... ({len(leaves)} in all)" if len(leaves) > most else "")


@dataclass(frozen=True)
class _Calls:
    """The calls in a graph of `model`: how often each module is called; `inside` begins the paths of all."""

    model: nn.Module
    counts: Counter
    inside: str

    def groups(self, node: fx.Node) -> list[Group]:
        """The group that begins with the call `node`; all inside it, if the graph does not show what is inside."""
        if self.calls(node, nn.Conv2d):
            group = self.group(node)
            return [group] if group else []
        module = self.model.get_submodule(node.target) if node.op == "call_module" else None
        if module is None or not any(module.children()):
            return []
        return find_groups(module, self.inside + node.target)

    def group(self, conv: fx.Node) -> Group | None:
        """None if no ReLU follows, or if weights are used elsewhere too."""
        after = self.reader(conv)
        norm = after if self.calls(after, nn.BatchNorm2d) else None
        relu = self.reader(after) if norm else after
        if relu is None or not is_rectifier(relu, self.model):
            return None
        if norm is None and self.calls(self.reader(relu), nn.BatchNorm2d):
            norm = self.reader(relu)
        if any(self.counts[node.target] > 1 for node in (conv, norm) if node is not None):
            return None
        own = relu.op == "call_module" and self.counts[relu.target] == 1
        names = [
            self.inside + node.target if node is not None else None for node in (conv, norm, relu if own else None)
        ]
        return Group(*names)

    def reader(self, node: fx.Node) -> fx.Node | None:
        """The only call that reads what `node` gives, if there is only one; nn.Identity is looked through."""
        following = next(iter(node.users)) if len(node.users) == 1 else None
        return self.reader(following) if self.calls(following, nn.Identity) else following

    def calls(self, node: fx.Node | None, kind: type[nn.Module]) -> bool:
        """Whether `node` is the call of a module of that very class: a subclass may do other things."""
        return node is not None and node.op == "call_module" and type(self.model.get_submodule(node.target)) is kind
