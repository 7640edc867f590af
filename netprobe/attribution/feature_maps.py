"""Feature maps: which sites hold a picture of the input, how it is laid out, and a way to reroute it.

Convolutional networks keep maps as (N, C, H, W), Swin-like ones as (N, H, W, C), vision transformers as
tokens (N, T, D), the first of which (class, distillation, registers) stand for no place. Callers of this
module see (N, C, H, W) only.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from netprobe.errors import NetprobeError, unknown
from netprobe.sites import Site, tensors

MOST_PREFIX_TOKENS = 8  # class, distillation and register tokens; public models have at most 5
NO_FEATURES = ("Pool", "Dropout", "Identity", "Permute", "Flatten")  # modules that only pass features on

Grid = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """How the tensor of `site` holds a map of `height` x `width` places, after `prefix` other tokens."""

    site: Site
    height: int
    width: int
    prefix: int = 0

    def to_map(self, tensor: Tensor) -> Tensor:
        """The map (N, C, height, width) in `tensor` as the module returned it."""
        places = self._channels_first(tensor)[:, :, self.prefix :]
        return places.reshape(*places.shape[:2], self.height, self.width)

    def from_map(self, maps: Tensor, like: Tensor) -> Tensor:
        """`like` with its map replaced by `maps`: the inverse of `to_map`. Prefix tokens pass unchanged."""
        like = self._channels_first(like)
        if self.prefix:
            replaced = torch.cat([like[:, :, : self.prefix], maps.flatten(2)], dim=2)
        else:
            replaced = maps.reshape(like.shape)
        return replaced.movedim(1, self.site.channel_axis).movedim(0, self.site.batch_axis)

    def _channels_first(self, tensor: Tensor) -> Tensor:
        return self.site.batch_first(tensor).movedim(self.site.channel_axis, 1)


def size_of(x: Tensor) -> Grid:
    """Height and width of inputs (N, C, H, W); waveforms (N, L) or (N, 1, L) are one row high."""
    return (x.shape[-2], x.shape[-1]) if x.ndim == 4 else (1, x.shape[-1])


def layouts(sites: Sequence[Site], size: Grid, grid: Grid | None = None) -> list[Layout]:
    """Every output among `sites` with a map of more than one place, for inputs of `size`, in run order.

    Tokens are arranged as `grid` if given, else as a map seen before (the patch embedding), else as the one
    division of the input into square patches that fits. Raises NetprobeError when two divisions fit.
    """
    found: list[Layout] = []
    for site in sites:
        if site.where == "output" and site.batch_axis is not None:
            seen = [(layout.height, layout.width) for layout in found if layout.site.channel_axis == 1]
            layout = _layout(site, size, seen, grid)
            if layout is not None and layout.height * layout.width > 1:
                found.append(layout)
    return found


def _layout(site: Site, size: Grid, seen: Sequence[Grid], grid: Grid | None) -> Layout | None:
    match len(site.shape), site.channel_axis:
        case (3, 1):
            return _plausible(Layout(site, *site.shape[1:]), size)
        case (3, 3):
            return _plausible(Layout(site, *site.shape[:2]), size)
        case (2, 1) if size[0] == 1:
            return Layout(site, 1, site.shape[1])
        case (2, 2):
            return _tokens(site, size, seen, grid)
    return None


def _plausible(layout: Layout, size: Grid) -> Layout | None:
    """None where the axes cannot be height and width: their ratio is off by more than two places."""
    off = abs(layout.height * size[1] - layout.width * size[0])
    return layout if off <= 2 * max(size) else None


def _tokens(site: Site, size: Grid, seen: Sequence[Grid], grid: Grid | None) -> Layout | None:
    fitting = _fitting(site, [grid]) if grid else _fitting(site, seen)[-1:] or _fitting(site, _divisions(size))
    if len(fitting) > 1 and _holds_features(site):
        raise NetprobeError(
            f"the {site.shape[0]} tokens at {site.name!r} could be {' or '.join(f'{h}x{w}' for h, w in fitting)} "
            f"places for inputs of {size[0]}x{size[1]}: say which with grid=(height, width)"
        )
    if len(fitting) != 1:
        return None
    ((height, width),) = fitting
    return Layout(site, height, width, prefix=site.shape[0] - height * width)


def _fitting(site: Site, grids: Sequence[Grid]) -> list[Grid]:
    """The grids that leave no more tokens over than those that stand for no place."""
    return [(h, w) for h, w in grids if 0 <= site.shape[0] - h * w <= MOST_PREFIX_TOKENS]


def _divisions(size: Grid) -> list[Grid]:
    """The grids of square patches that tile an image of `size`; pieces of a waveform can have any length."""
    height, width = size
    patches = range(2, min(size))
    return [(height // p, width // p) for p in patches if height % p == 0 and width % p == 0]


def candidate_maps(maps: Sequence[Layout]) -> list[Layout]:
    """Those of `maps` that a reader would call feature maps.

    A map finer than one before it is none: it is an attention matrix or a pool that repeats its only value.
    Modules that compute no features are passed over, and where channels come last (transformers) only
    normalisation layers count, because their outputs are on one scale.
    """
    coarsest, kept = float("inf"), []
    for layout in maps:
        places = layout.height * layout.width
        if places <= coarsest and _holds_features(layout.site):
            coarsest = places
            kept.append(layout)
    return kept


def _holds_features(site: Site) -> bool:
    if site.channel_axis == len(site.shape):
        return "Norm" in site.kind
    return not (site.leaf and any(word in site.kind for word in NO_FEATURES))


def effective(model: nn.Module, maps: Sequence[Layout], score: Callable[[], Tensor]) -> list[Layout]:
    """Those of `maps` on which `score()` depends, in the given order.

    A zero is added to every map; a map counts when the gradient of the summed scores (N,) with respect to
    its zero is not 0 everywhere. `score` runs `model`, on any inputs. Cost: a forward and a backward pass.
    """
    zeros: dict[Layout, Tensor] = {}

    def add_zero(layout: Layout, values: Tensor) -> Tensor:
        zeros[layout] = torch.zeros_like(values, requires_grad=True)
        return values + zeros[layout]

    with torch.enable_grad(), rerouted(model, maps, add_zero):
        total = score().sum()
    if not total.requires_grad:
        return []
    gradients = torch.autograd.grad(total, list(zeros.values()), allow_unused=True)
    felt = {layout for layout, g in zip(zeros, gradients, strict=True) if g is not None and bool(g.any())}
    return [layout for layout in maps if layout in felt]


def named_site(model: nn.Module, sites: Sequence[Site], layer: str | nn.Module) -> Site:
    """The output at `layer`: a site's name, a module's path or a module; the last of several calls."""
    outputs = [site for site in sites if site.where == "output"]
    path = _path(model, layer) if isinstance(layer, nn.Module) else layer
    matching = [s for s in outputs if s.name == path] or [s for s in outputs if s.module == path]
    if not matching:
        raise unknown("layer", path, [site.name for site in outputs], "`netprobe layers` lists all.")
    return matching[-1]


def _path(model: nn.Module, layer: nn.Module) -> str:
    for path, module in model.named_modules():
        if module is layer:
            return path
    raise NetprobeError(
        f"layer={type(layer).__name__}(...) is no part of this {type(model).__name__}: "
        "take it from the model itself, or give its name"
    )


@contextlib.contextmanager
def rerouted(model: nn.Module, maps: Sequence[Layout], through: Callable[[Layout, Tensor], Tensor]) -> Iterator[None]:
    """Inside, each of `maps`, as (N, C, H, W), is replaced on its way downstream by `through(layout, map)`.

    `through` gets a view of the tensor, not to be written to. Hooks are removed on leaving, also after an
    exception.
    """
    calls: Counter[str] = Counter()

    def hook(path: str, here: list[Layout]) -> Callable:
        def replace(_module: nn.Module, _args: tuple, output: object) -> object:
            call = calls[path]
            calls[path] += 1
            for layout in here:
                if layout.site.call == call:
                    output = _replaced(output, layout, through)
            return output

        return replace

    handles = [model.register_forward_pre_hook(lambda *_: calls.clear(), prepend=True)]
    try:
        for path, module in model.named_modules():
            if here := [layout for layout in maps if layout.site.module == path]:
                handles.append(module.register_forward_hook(hook(path, here)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _replaced(output: object, layout: Layout, through: Callable[[Layout, Tensor], Tensor]) -> object:
    nested = dict(tensors(output))
    old = nested[layout.site.part] if layout.site.part else next(iter(nested.values()))
    new = layout.from_map(through(layout, layout.to_map(old)), old)
    return tree_map(lambda value: new if value is old else value, output)
