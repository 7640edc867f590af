"""The copy of a model that gradients are taken from: the same function, in fewer and faster operations."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from netprobe.outputs import logits_of
from netprobe.perturb.backward import stands_alone
from netprobe.perturb.frozen import frozen

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest logit, that rounding may make."""


def attack_copy(model: nn.Module, x: Tensor, dtype: torch.dtype | None = None) -> nn.Module:
    """A frozen copy of `model` in eval mode for inputs like `x` (N, ...): batch norm folded, channels last.

    Every batch normalisation that follows a convolution is folded into it where torch.fx can trace the model; the
    weights are laid out with channels last where the model takes such inputs. Each of the two is kept only if the
    copy's logits at `x`, and at its first image alone, are the model's up to 1e-4 of the largest: what cannot be
    traced, or would change, stays as it is. Gradients that a layer replaces (`backward_surrogate`) are never traced
    away. The model itself is not touched. With `dtype` the copy computes in that precision inside (inputs, logits and
    input gradients stay as they are); that is not compared, since it is not the same function.

    Cost: one more copy of the weights, and a few forward passes of `x`.
    """
    plain = copy.deepcopy(model)
    best: nn.Module = plain
    with frozen(plain), torch.no_grad():
        for change in (_folded, _channels_last):
            changed = _attempt(change, best, plain, x)
            best = best if changed is None else changed
    best.eval().requires_grad_(False)
    return best if dtype is None else _Cast(best, dtype)


def _attempt(change, model: nn.Module, reference: nn.Module, x: Tensor) -> nn.Module | None:
    """`change(model)` if it is still the same function, else None."""
    try:
        changed = change(model)
        same = all(_same(_logits(changed, part), _logits(reference, part)) for part in (x, x[:1]))
    except Exception as error:  # whatever a stranger's forward raises when traced or fed another memory format
        logger.info("attacks use the model without %s: %s", change.__name__.strip("_"), error)
        return None
    if not same:
        logger.info("attacks use the model without %s: it changes the logits", change.__name__.strip("_"))
    return changed if same else None


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    """Logits at `x`, with the same random numbers every time."""
    devices = [x.device] if x.is_cuda else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        return logits_of(model(x.clone()), len(x))


def _same(ours: Tensor, reference: Tensor) -> bool:
    return bool((ours - reference).abs().max() <= TOLERANCE * reference.abs().max())


def _folded(model: nn.Module) -> nn.Module:
    if any(hasattr(module, "backward_surrogate") and not stands_alone(module) for module in model.modules()):
        raise TypeError("a layer declares its own backward pass, which tracing would lose")
    traced = trace(copy.deepcopy(model))
    modules = dict(traced.named_modules())
    folded = [node for node in traced.graph.nodes if _is_foldable(node, modules)]
    traced.meta["folds"] = {node.args[0].target: node.target for node in folded}  # meta survives a deep copy
    for node in folded:
        _fold(node, traced, modules)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def trace(model: nn.Module) -> fx.GraphModule:
    """`model` as a graph of its modules; one that cannot be traced (control flow that looks at values) stays whole."""
    tracer = _Tracer()
    while True:
        try:
            return fx.GraphModule(model, tracer.trace(model))
        except Exception as error:  # whatever a stranger's forward raises when it meets a placeholder
            if tracer.inside is None or tracer.inside in tracer.whole:
                raise
            logger.debug("%s is not looked into: %s", tracer.inside, error)
            tracer.whole.add(tracer.inside)


class _Tracer(fx.Tracer):
    """Looks into modules that have children, but for those that are to stay `whole`; knows where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: set[str] = set()
        self.inside: str | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        childless = next(m.children(), None) is None
        return childless or module_qualified_name in self.whole or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> object:
        outside, self.inside = self.inside, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.inside = outside  # not restored after an error: where it happened is what `trace` asks
        return result


def _is_foldable(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether `node` is a batch norm with running statistics whose input is a convolution that nothing else reads."""
    pairs = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d))
    if node.op != "call_module" or type(modules[node.target]) not in [norm for _, norm in pairs]:
        return False
    before = node.args[0] if node.args else None
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return False
    norm, calls = modules[node.target], [n.target for n in node.graph.nodes if n.op == "call_module"]
    once = calls.count(node.target) == calls.count(before.target) == 1
    return once and norm.running_mean is not None and (type(modules[before.target]), type(norm)) in pairs


def _fold(node: fx.Node, traced: fx.GraphModule, modules: dict[str, nn.Module]) -> None:
    convolution = node.args[0]
    traced.set_submodule(convolution.target, fuse_conv_bn_eval(modules[convolution.target], modules[node.target]))
    node.replace_all_uses_with(convolution)
    traced.graph.erase_node(node)


def _channels_last(model: nn.Module) -> nn.Module:
    if not any(isinstance(module, nn.Conv2d) for module in model.modules()):
        raise TypeError("it has no two-dimensional convolution")
    return _ChannelsLast(copy.deepcopy(model))


def memory_format(surrogate: nn.Module) -> torch.memory_format:
    """The layout in which the model that `surrogate` is a copy of can be fed, the faster one if it can be chosen."""
    inner = surrogate.net if isinstance(surrogate, _Cast) else surrogate
    return torch.channels_last if isinstance(inner, _ChannelsLast) else torch.contiguous_format


class LiveCopy:
    """An `attack_copy` of a model that is being trained: `refresh` brings its weights up to date, in place.

    Cost of `refresh`: one copy of the weights, and of those of folded convolutions one multiplication; no tracing.
    What the copy computes besides weights and buffers, such as a flag that the model's forward reads, is as it was
    when the copy was made; `remade` notices that at the inputs x.
    """

    def __init__(self, model: nn.Module, x: Tensor, dtype: torch.dtype | None = None) -> None:
        self.model, self.x, self.dtype = model, x, dtype
        self.module = attack_copy(model, x, dtype)
        inner = self.module
        while isinstance(inner, _Cast | _ChannelsLast):
            inner = inner.net
        folds = getattr(inner, "meta", {}).get("folds", {})
        theirs = dict(model.named_parameters(remove_duplicate=False)) | dict(
            model.named_buffers(remove_duplicate=False)
        )
        self._folds = _Folds(
            [inner.get_submodule(conv) for conv in folds],
            [model.get_submodule(conv) for conv in folds],
            [model.get_submodule(norm) for norm in folds.values()],
        )
        folded = {f"{conv}.{name}" for conv in folds for name in ("weight", "bias")}
        ours = dict(inner.named_parameters()) | dict(inner.named_buffers())
        self._pairs = [(tensor, theirs[name]) for name, tensor in ours.items() if name not in folded]

    def remade(self) -> LiveCopy:
        """This copy, if it still is the same function as the model at x; else a new one."""
        if self.dtype is not None:  # rounded: whether it is the same function cannot be told
            return LiveCopy(self.model, self.x, self.dtype)
        inner = self.refresh()
        with frozen(self.model), torch.no_grad():
            same = _same(_logits(inner, self.x), _logits(self.model, self.x))
        return self if same else LiveCopy(self.model, self.x, self.dtype)

    @torch.no_grad()
    def refresh(self) -> nn.Module:
        """The copy, with the weights and statistics that the model has now."""
        for ours, theirs in self._pairs:
            ours.copy_(theirs)
        self._folds.refresh()
        return self.module


class _Folds:
    """Folded convolutions, brought up to date, all at once, with the convolutions and batch norms they are made of.

        weight = w g r,  bias = (b - mean) r g + shift,  r = 1 / sqrt(var + eps)

    in the order of torch.nn.utils.fusion, so that the bits are the same. One call an operation and not one a layer: on
    a GPU the launches of small networks cost more than the arithmetic.
    """

    def __init__(self, folded: list[nn.Module], convolutions: list[nn.Module], norms: list[nn.Module]) -> None:
        self.folded, self.weights = folded, [conv.weight for conv in convolutions]
        self.means, self.variances = [norm.running_mean for norm in norms], [norm.running_var for norm in norms]
        self.eps = [norm.eps for norm in norms]
        zeros, ones = [torch.zeros_like(mean) for mean in self.means], [torch.ones_like(mean) for mean in self.means]
        self.biases = _given([conv.bias for conv in convolutions], zeros)
        self.gains = _given([norm.weight for norm in norms], ones)
        self.shifts = _given([norm.bias for norm in norms], zeros)

    def refresh(self) -> None:
        """Under `torch.no_grad`."""
        if not self.folded:
            return
        inverse = torch._foreach_rsqrt(torch._foreach_add(self.variances, self.eps))
        scales = torch._foreach_mul(self.gains, inverse)
        for ours, weight, scale in zip(self.folded, self.weights, scales, strict=True):
            torch.mul(weight, scale.view(-1, *[1] * (weight.ndim - 1)), out=ours.weight)
        biases = torch._foreach_sub(self.biases, self.means)
        torch._foreach_mul_(biases, inverse)
        torch._foreach_mul_(biases, self.gains)
        torch._foreach_add_(biases, self.shifts)
        torch._foreach_copy_([ours.bias for ours in self.folded], biases)


def _given(tensors: list[Tensor | None], otherwise: list[Tensor]) -> list[Tensor]:
    return [other if tensor is None else tensor for tensor, other in zip(tensors, otherwise, strict=True)]


class _ChannelsLast(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> object:
        return self.net(x.contiguous(memory_format=torch.channels_last))


class _Cast(nn.Module):
    """Compute in another precision; what comes in and goes out keeps its own."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = net.to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        return logits_of(self.net(x.to(self.dtype)), len(x)).to(x.dtype)
