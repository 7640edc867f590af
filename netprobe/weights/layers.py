"""Which convolution, linear and batch-norm layers a model has, at which input resolution, or why one cannot be read."""

from __future__ import annotations

import contextlib
import copy
import fnmatch
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError, unknown
from netprobe.models.normalize import Normalized
from netprobe.sites import Site, find_sites, select

CONVOLUTIONS = frozenset({"_ConvNd"})
LINEAR = frozenset({"Linear"})
NORMS = frozenset({"_NormBase", "FrozenBatchNorm2d", "GroupNorm", "LayerNorm", "RMSNorm"})

NOT_REACHED = "never reached by the dry run: its input resolution is unknown"
LAZY = "lazy: its weights do not exist yet; run one batch through the model first"


@dataclass(frozen=True)
class Layer:
    """One layer with weights, and where it stands in the run.

    `input_shape` and `output_shape` are those of its first call, without the batch axis, () if it was never called;
    `order` counts in the run (-1: never), `depth` is the relative place in [0, 1] (NaN: never). `usable` is False when
    its weights or its resolution cannot be had; `note` then says why, and otherwise what to know. The fields that
    `netprobe.sites.selection` reads are those of a site, so that the same patterns choose layers.
    """

    name: str
    path: str
    kind: str
    lineage: frozenset[str] = field(repr=False)
    order: int
    depth: float
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    usable: bool
    note: str
    leaf: bool
    where: str = "output"
    batch_axis: int = 0

    @property
    def module(self) -> str:
        """The module's path, under the name that `netprobe.sites.selection` knows."""
        return self.path

    def of(self, model: nn.Module) -> nn.Module:
        """The module itself."""
        return model.get_submodule(self.path)


def example_input(model: nn.Module, input_shape: Sequence[int] | Tensor) -> Tensor:
    """One input (1, ...) of the model's own type and device, from its shape without the batch axis, or from a batch."""
    like = next((p for p in model.parameters() if p.is_floating_point() and not _lazy(p)), torch.empty(0))
    if isinstance(input_shape, Tensor):
        return input_shape[:1].to(like)
    sizes = tuple(input_shape)
    if not sizes or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise NetprobeError(f"input_shape={input_shape!r}: give positive sizes without the batch axis, as (3, 32, 32)")
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, *sizes, generator=generator).to(like)


def runnable(model: nn.Module, input_shape: Sequence[int] | Tensor) -> nn.Module:
    """The model; if it has lazy modules, a copy in which one run has given them weights (of no meaning)."""
    if not any(map(_lazy, model.parameters())):
        return model
    ready = copy.deepcopy(model).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _explained(model, input_shape):
        ready(example_input(model, input_shape))
    return ready


def find_layers(model: nn.Module, input_shape: Sequence[int] | Tensor) -> list[Layer]:
    """Every convolution, linear and normalisation layer with weights, in run order; those never called come last.

    A dry run on one input finds the resolutions; the model is left as found. A model with lazy modules is run as a
    copy, because a dry run would give it weights.
    """
    lazy = {path for path, module in model.named_modules() if any(map(_lazy, module.parameters(recurse=False)))}
    sites = _dry_run(runnable(model, input_shape), example_input(model, input_shape))
    calls = _calls(sites)
    last = max((site.order for site in sites), default=0) or 1
    found = [
        _layer(model, path, module, calls.get(path, []), path in lazy, last)
        for path, module in model.named_modules()
        if _has_weights(module)
    ]
    return sorted(found, key=lambda layer: layer.order if layer.order >= 0 else last + 1)


def choose(layers: Sequence[Layer], patterns: Any) -> list[Layer]:
    """The layers that `patterns` (see `netprobe.sites.selection`) choose.

    Raises NetprobeError for a pattern that matches nothing, and for a layer that was named outright but cannot be
    analysed; behind a wildcard such a layer stays, with its note.
    """
    if not layers:
        raise unknown("layer", patterns, [], "The model has no convolution, linear or normalisation layer.")
    chosen = select(layers, patterns)
    for layer in chosen:
        if not layer.usable and named_outright(layer, patterns):
            raise NetprobeError(f"layer {layer.name!r} cannot be analysed: {layer.note}")
    return chosen


def named_outright(layer: Layer, patterns: Any) -> bool:
    """Whether one of `patterns` is this layer's very name."""
    several = patterns.split(",") if isinstance(patterns, str) else patterns if isinstance(patterns, Sequence) else []
    return any(isinstance(p, str) and p.strip() == layer.name and fnmatch.fnmatchcase(layer.name, p.strip())
               for p in several)  # fmt: skip


def _dry_run(model: nn.Module, x: Tensor) -> list[Site]:
    with _explained(model, x.shape[1:]):
        return find_sites(model, x)


@contextlib.contextmanager
def _explained(model: nn.Module, shape: Sequence[int] | Tensor) -> Iterator[None]:
    """Say of an error inside that the model may have got inputs of the wrong shape."""
    try:
        yield
    except NetprobeError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shown = tuple(shape.shape[1:]) if isinstance(shape, Tensor) else tuple(shape)
        raise NetprobeError(
            f"{type(model).__name__} does not run on an input of shape {shown}: {error}; "
            "give the input_shape it is made for, without the batch axis"
        ) from error


def _calls(sites: Sequence[Site]) -> dict[str, list[tuple[Site, Site]]]:
    """What entered and left each module, call by call."""
    by_call: dict[tuple[str, int], dict[str, Site]] = {}
    for site in sites:
        by_call.setdefault((site.module, site.call), {}).setdefault(site.where, site)
    calls: dict[str, list[tuple[Site, Site]]] = {}
    for (module, _), ends in by_call.items():
        if {"input", "output"} <= ends.keys():
            calls.setdefault(module, []).append((ends["input"], ends["output"]))
    return calls


def _layer(
    model: nn.Module, path: str, module: nn.Module, calls: list[tuple[Site, Site]], lazy: bool, last: int
) -> Layer:
    entered, left = calls[0] if calls and not lazy else (None, None)
    reason = LAZY if lazy else _bad_weights(module) or ("" if calls else NOT_REACHED)
    return Layer(
        name=path.removeprefix("net.") if isinstance(model, Normalized) and path != "net" else path,
        path=path,
        kind=type(module).__name__,
        lineage=_lineage(module),
        order=left.order if left else -1,
        depth=left.order / last if left else float("nan"),
        input_shape=entered.shape if entered else (),
        output_shape=left.shape if left else (),
        usable=not reason,
        note=reason or _several_sizes(calls),
        leaf=not any(module.children()),
    )


def _several_sizes(calls: list[tuple[Site, Site]]) -> str:
    """A layer called at several sizes is another operator at each: say which one is meant."""
    sizes = Counter("x".join(map(str, entered.shape)) for entered, _ in calls)
    if len(sizes) < 2:
        return ""
    first, *others = sizes
    return f"called with inputs of several sizes: the numbers are for {first}, not for {', '.join(others)}"


def _lineage(module: nn.Module) -> frozenset[str]:
    return frozenset(c.__name__ for c in type(module).__mro__)


def _has_weights(module: nn.Module) -> bool:
    return bool(_lineage(module) & (CONVOLUTIONS | LINEAR | NORMS))


def _lazy(parameter: object) -> bool:
    return isinstance(parameter, nn.parameter.UninitializedTensorMixin)


def _bad_weights(module: nn.Module) -> str:
    """Why the weights themselves cannot be read; empty if they can."""
    tensors = [getattr(module, name, None) for name in ("weight", "bias", "running_mean", "running_var")]
    for check in (_not_real, _not_finite):
        for tensor in tensors:
            if tensor is not None and (reason := check(tensor)):
                return reason
    return ""


def _not_real(weight: Any) -> str:
    if isinstance(weight, Callable) or getattr(weight, "is_quantized", False):
        return "quantised weights: analyse the model before quantisation, or dequantise it"
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        return f"weights of type {getattr(weight, 'dtype', type(weight).__name__)}, not real floating-point numbers"
    return ""


def _not_finite(weight: Tensor) -> str:
    bad = int((~torch.isfinite(weight)).sum())
    return f"{bad} of {weight.numel()} numbers of a weight are NaN or infinite" if bad else ""
