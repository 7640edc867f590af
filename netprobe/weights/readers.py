"""Which batch norm alone reads what a layer returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from netprobe.guard import undisturbed


def only_batch_norm(model: nn.Module, x: Tensor, paths: Sequence[str], norms: Sequence[str]) -> dict[str, str]:
    """For each layer of `paths` whose output is read by one batch norm of `norms` and by nothing else, that norm.

    A shortcut that adds the same output elsewhere disqualifies the layer: a channel that the norm makes constant
    still lives there. One forward pass on `x` (1, ...), in which the outputs of `paths` are kept; the model is left as
    found.
    """
    readers = _Readers()
    with ExitStack() as stack:
        stack.enter_context(undisturbed(model))
        stack.enter_context(torch.no_grad())
        for path in paths:
            stack.callback(model.get_submodule(path).register_forward_hook(readers.returned_by(path)).remove)
        for path in norms:
            stack.callback(model.get_submodule(path).register_forward_pre_hook(readers.received_by(path)).remove)
        stack.enter_context(readers)
        model(x)
    return readers.only()


class _Readers(TorchFunctionMode):
    """Follows the tensors that layers return: which norms receive them, and how many functions make tensors of them.

    The tensors are kept, so that no other takes their identity.
    """

    def __init__(self) -> None:
        super().__init__()
        self.returned: dict[int, tuple[str, Tensor]] = {}
        self.norms: dict[int, set[str]] = {}
        self.uses: dict[int, int] = {}

    def returned_by(self, path: str) -> Callable:
        def hook(_module: nn.Module, _args: tuple, output: Any) -> None:
            if isinstance(output, Tensor):
                self.returned[id(output)] = path, output

        return hook

    def received_by(self, path: str) -> Callable:
        def hook(_module: nn.Module, args: tuple) -> None:
            if args and id(args[0]) in self.returned:
                self.norms.setdefault(id(args[0]), set()).add(path)

        return hook

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):  # asking for a shape uses nothing
            for used in {id(leaf) for leaf in tree_leaves((args, kwargs))} & self.returned.keys():
                self.uses[used] = self.uses.get(used, 0) + 1
        return result

    def only(self) -> dict[str, str]:
        """The one norm of each path, over all its calls."""
        found: dict[str, set[str]] = {}
        for key, (path, _) in self.returned.items():
            alone = self.uses.get(key) == 1 and len(self.norms.get(key, ())) == 1
            found.setdefault(path, set()).update(self.norms[key] if alone else {""})
        return {path: norm for path, (norm, *others) in found.items() if norm and not others}
