"""Find every site of a network by a dry run, in run order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.models.normalize import Normalized
from netprobe.sites.hooks import hooked, named_tensors, unfused_attention
from netprobe.sites.site import Site

CHANNELS_FIRST = (
    "_ConvNd",
    "_NormBase",
    "GroupNorm",
    "_MaxPoolNd",
    "_AvgPoolNd",
    "_AdaptiveAvgPoolNd",
    "_AdaptiveMaxPoolNd",
)
CHANNELS_LAST = ("Linear", "LayerNorm", "RMSNorm", "MultiheadAttention", "Embedding", "RNNBase")


@dataclass(frozen=True)
class _Event:
    """One tensor seen during one forward pass."""

    module: str
    call: int
    where: str
    part: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def key(self) -> tuple:
        return self.module, self.call, self.where, self.part


def _record(model: nn.Module, x: Tensor) -> list[_Event]:
    events: list[_Event] = []

    def note(path: str, call: int, where: str, value: object) -> None:
        events.extend(_Event(path, call, where, part, tuple(t.shape)) for part, t in named_tensors(value))

    with hooked(model, {path for path, _ in model.named_modules()}, note):
        model(x)
    return events


def find_sites(model: nn.Module, x: Tensor, *, macs: bool = False) -> list[Site]:
    """Every site of `model` on inputs like `x` (N, ...), in run order; a module's output comes when it returns.

    Two dry runs, on 2 and on 3 copies of the first image, tell which axis counts the images. The model is left as
    found. Raises NetprobeError when the two runs do not call the same modules (control flow that depends on the batch
    size). `macs` counts multiply-adds, too, which takes seconds the first time in a process.

    >>> import torch
    >>> import netprobe as npb
    >>> sites = npb.find_sites(npb.load("digits_cnn"), torch.rand(1, 1, 8, 8))
    >>> [(site.name, site.kind, site.shape) for site in sites[:3]]
    [('input', 'ConvNet', (1, 8, 8)), ('conv1:in', 'Conv2d', (1, 8, 8)), ('conv1', 'Conv2d', (16, 8, 8))]
    """
    x = x[:1]
    with undisturbed(model), torch.no_grad():
        two = _record(model, torch.cat([x] * 2))
        three = _record(model, torch.cat([x] * 3))
        counted = _macs(model, x) if macs else {}
    if [e.key for e in two] != [e.key for e in three]:
        raise NetprobeError(
            f"{type(model).__name__} calls other modules for 2 images than for 3, so its sites have no fixed names; "
            "make its forward independent of the batch size"
        )
    return _sites(model, two, three, counted)


def _macs(model: nn.Module, x: Tensor) -> dict[str, int]:
    """Multiply-adds of one image by module path (the counter counts two operations each)."""
    from torch.utils.flop_counter import FlopCounterMode  # which imports much of torch's compiler

    counter = FlopCounterMode(display=False)
    with counter, unfused_attention():
        model(torch.cat([x] * 2))
    root = type(model).__name__
    totals = {path: sum(ops.values()) // 4 for path, ops in counter.get_flop_counts().items()}
    paths = {path: f"{root}.{path}" if path else root for path, _ in model.named_modules()}
    return {path: totals.get(tracked, 0) for path, tracked in paths.items()} | {"": totals.get("Global", 0)}


def _sites(model: nn.Module, two: list[_Event], three: list[_Event], macs: dict[str, int]) -> list[Site]:
    modules = dict(model.named_modules())
    parameters = {path: sum(p.numel() for p in module.parameters()) for path, module in modules.items()}
    lineages = {path: frozenset(c.__name__ for c in type(module).__mro__) for path, module in modules.items()}
    repeated = {event.module for event in two if event.call}
    axes: dict[tuple, int] = {}
    sites = []
    for order, (event, other) in enumerate(zip(two, three, strict=True)):
        module = modules[event.module]
        batch_axis = _batch_axis(event.shape, other.shape)
        shape = tuple(n for axis, n in enumerate(event.shape) if axis != batch_axis)
        channel_axis = axes[shape] = _channel_axis(lineages[event.module], shape, axes)
        sites.append(
            Site(
                name=_name(model, event, repeated),
                module=event.module,
                call=event.call,
                where=event.where,
                part=event.part,
                kind=type(module).__name__,
                shape=shape,
                batch_axis=batch_axis,
                channel_axis=channel_axis,
                order=order,
                parameters=parameters[event.module],
                macs=macs.get(event.module),
                leaf=not any(True for _ in module.children()),
                lineage=lineages[event.module],
            )
        )
    return sites


def _batch_axis(two: tuple[int, ...], three: tuple[int, ...]) -> int | None:
    """The one axis that is 2 long for two images and 3 long for three, or None."""
    if len(two) != len(three):
        return None
    changed = [axis for axis, pair in enumerate(zip(two, three, strict=True)) if pair[0] != pair[1]]
    return changed[0] if len(changed) == 1 and (two[changed[0]], three[changed[0]]) == (2, 3) else None


def _channel_axis(lineage: frozenset[str], shape: tuple[int, ...], seen: dict[tuple, int]) -> int:
    """Where the channels are, images on axis 0: told by the module's type, else by the last tensor of this shape."""
    if len(shape) <= 1:
        return len(shape)
    if lineage.intersection(CHANNELS_FIRST):
        return 1
    if lineage.intersection(CHANNELS_LAST):
        return len(shape)
    return seen.get(shape, len(shape) if len(shape) == 2 else 1)


def _name(model: nn.Module, event: _Event, repeated: set[str]) -> str:
    path = event.module
    if isinstance(model, Normalized):  # the wrapped network keeps its own names
        path = path.removeprefix("net.") if path != "net" else "net"
    part = "".join(f"/{p}" for p in event.part)
    if not path:
        return event.where + part
    call = f"#{event.call}" if event.module in repeated else ""
    return f"{path}{call}{':in' if event.where == 'input' else ''}{part}"
