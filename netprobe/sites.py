"""Where to listen: every tensor that enters or leaves a module, found by a dry run, in run order.

A *site* is one tensor of one call of one module:

    layer1.0.conv1        the output of that module
    layer1.0.conv1:in     its input
    layer1.0.relu#1       the output of the second call of a module that is called more than once (calls count from 0)
    lstm/0                the first tensor of an output that is a tuple, list, dict or dataclass
    input, output         what the whole model receives and returns
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.models.normalize import Normalized

__all__ = ["Site", "find_sites", "listening", "undisturbed"]

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
class Site:
    """One place to listen.

    `shape` is the shape for one image (batch axis removed); `batch_axis` is None when no axis counts the images, and
    then the site cannot be probed; `channel_axis` counts in the batch-first tensor. `parameters` are those of the
    module and its children, `macs` its multiply-adds for one image, all its calls together.
    """

    name: str
    module: str
    call: int
    where: str
    part: tuple[str, ...]
    kind: str
    shape: tuple[int, ...]
    batch_axis: int | None
    channel_axis: int
    order: int
    parameters: int
    macs: int | None
    leaf: bool
    lineage: frozenset[str] = field(repr=False)

    @property
    def units(self) -> int:
        """Numbers per image."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """Length of the channel axis; 1 for one number per image."""
        return self.shape[self.channel_axis - 1] if self.shape else 1

    def batch_first(self, tensor: Tensor) -> Tensor:
        """`tensor` as the module handed it over, seen with the images on axis 0."""
        return tensor if self.batch_axis == 0 else tensor.movedim(self.batch_axis, 0)


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


def tensors(value: object, part: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """The floating-point tensors in a nest of tuples, lists, dicts and dataclasses, each with its path."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.ndim:
            yield part, value
        return
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, tuple | list):
        items = enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
    else:
        return
    for key, item in items:
        yield from tensors(item, (*part, str(key)))


def _named(value: object) -> list[tuple[tuple[str, ...], Tensor]]:
    """As `tensors`, each tensor once (self-attention hands over one tensor thrice); a lone tensor needs no path."""
    lone = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    if isinstance(lone, Tensor):  # nearly always
        return [((), lone)] if lone.is_floating_point() and lone.ndim else []
    found = {id(tensor): (part, tensor) for part, tensor in reversed(list(tensors(value)))}
    ordered = list(found.values())[::-1]
    return [((), ordered[0][1])] if len(ordered) == 1 else ordered


@contextlib.contextmanager
def _hooked(model: nn.Module, paths: set[str], callback: Callable[[str, int, str, object], None]) -> Iterator[None]:
    """Call `callback(path, call, where, value)` for what enters and leaves the modules at `paths`."""
    calls: Counter[str] = Counter()
    handles = [model.register_forward_pre_hook(lambda *_: calls.clear(), prepend=True)]

    def before(path: str) -> Callable:
        return lambda _module, args, kwargs: callback(path, calls[path], "input", (*args, kwargs) if kwargs else args)

    def after(path: str) -> Callable:
        def hook(_module: nn.Module, _args: tuple, output: object) -> None:
            calls[path] += 1
            callback(path, calls[path] - 1, "output", output)

        return hook

    try:
        for path in paths:
            module = model.get_submodule(path)
            handles.append(module.register_forward_pre_hook(before(path), with_kwargs=True))
            handles.append(module.register_forward_hook(after(path)))
        with _unfused_attention():
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _unfused_attention() -> Iterator[None]:
    """Without torch's fast path for attention, which bypasses the very modules that are listened to or counted."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _record(model: nn.Module, x: Tensor) -> list[_Event]:
    events: list[_Event] = []

    def note(path: str, call: int, where: str, value: object) -> None:
        events.extend(_Event(path, call, where, part, tuple(t.shape)) for part, t in _named(value))

    with _hooked(model, {path for path, _ in model.named_modules()}, note):
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
    with counter, _unfused_attention():
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


@contextlib.contextmanager
def listening(model: nn.Module, sites: list[Site], callback: Callable[[Site, Tensor], None]) -> Iterator[None]:
    """Call `callback(site, tensor)` with every site's tensor, images first, the moment the model produces it.

    Nothing is kept: an in-place operation downstream cannot change what was read, and memory does not grow. Hooks are
    removed on leaving, also after an exception. The tensor is the model's own: do not write to it.

    >>> import torch
    >>> import netprobe as npb
    >>> from netprobe.sites import listening
    >>> net, x, seen = npb.load("digits_cnn"), torch.rand(2, 1, 8, 8), {}
    >>> convolutions = npb.select(npb.find_sites(net, x), "conv1,conv5")
    >>> with listening(net, convolutions, lambda site, tensor: seen.update({site.name: tensor.mean((2, 3))})):
    ...     _ = net(x)
    >>> {name: tuple(means.shape) for name, means in seen.items()}
    {'conv1': (2, 16), 'conv5': (2, 64)}
    """
    wanted: dict[tuple, Site] = {(s.module, s.call, s.where, s.part): s for s in sites}

    def hand_over(path: str, call: int, where: str, value: object) -> None:
        for part, tensor in _named(value):
            site = wanted.get((path, call, where, part))
            if site is not None:
                callback(site, site.batch_first(tensor))

    with _hooked(model, {site.module for site in sites}, hand_over):
        yield
