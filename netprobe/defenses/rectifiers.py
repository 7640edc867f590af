"""Where the graph of a network has a ReLU, in whatever form."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.nn import functional

FUNCTIONS = {torch.relu, torch.relu_, functional.relu, functional.relu_, "relu", "relu_"}
"""Functions, and methods of tensors by name."""


def is_rectifier(node: fx.Node, model: nn.Module) -> bool:
    """Whether `node`, of a graph of `model`, is a ReLU: a module of that very class, a function, or a method."""
    if node.op == "call_module":
        return type(model.get_submodule(node.target)) is nn.ReLU
    return node.op in ("call_function", "call_method") and node.target in FUNCTIONS
