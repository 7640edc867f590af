"""Listen to what enters and leaves modules."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from netprobe.sites.site import Site


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
        for part, tensor in named_tensors(value):
            site = wanted.get((path, call, where, part))
            if site is not None:
                callback(site, site.batch_first(tensor))

    with hooked(model, {site.module for site in sites}, hand_over):
        yield


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


def named_tensors(value: object) -> list[tuple[tuple[str, ...], Tensor]]:
    """As `tensors`, each tensor once (self-attention hands over one tensor thrice); a lone tensor needs no path."""
    lone = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    if isinstance(lone, Tensor):  # nearly always
        return [((), lone)] if lone.is_floating_point() and lone.ndim else []
    found = {id(tensor): (part, tensor) for part, tensor in reversed(list(tensors(value)))}
    ordered = list(found.values())[::-1]
    return [((), ordered[0][1])] if len(ordered) == 1 else ordered


@contextlib.contextmanager
def hooked(model: nn.Module, paths: set[str], callback: Callable[[str, int, str, object], None]) -> Iterator[None]:
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
        with unfused_attention():
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def unfused_attention() -> Iterator[None]:
    """Without torch's fast path for attention, which bypasses the very modules that are listened to or counted."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
