"""The layers of a model in one line, and where a cutoff falls between them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from torch import nn

from netprobe.errors import NetprobeError, unknown
from netprobe.models.normalize import Normalized

BEFORE = "before "
END = "end"
"""The name of the place after the last layer."""


class Layer(NamedTuple):
    """One layer: its name as people say it, its path in the model, its class, and how many parameters it has."""

    name: str
    path: str
    kind: str
    parameters: int


def list_layers(model: nn.Module) -> list[str]:
    """The names of the layers that a cutoff divides, in the order in which the model registers them.

    A layer is a leaf module with parameters, or a batch normalisation with running statistics: 41 in ResNet-18 for
    CIFAR, a shortcut after the branch it is added to, and 27 in VGG-16. Names drop the prefix of a normalising
    wrapper (`net.`). The order is that of registration, not of the run: for the models of netprobe and torchvision
    the two agree, and with skip connections any order is partly arbitrary.

    NetprobeError for parameters that no layer could re-initialise: those of a module with children or without
    `reset_parameters` (class tokens, layer scales, attention, weight norm), lazy ones, and weights shared by layers.
    """
    return [layer.name for layer in layers_of(model)]


def layers_of(model: nn.Module) -> list[Layer]:
    """What `list_layers` names, in the same order."""
    owning = [(path, module) for path, module in model.named_modules() if _owns(module)]
    strange = [f"{path or 'the model itself'} ({type(m).__name__})" for path, m in owning if not _resettable(m)]
    if strange:
        raise NetprobeError(
            "partial training re-initialises layer by layer, which needs leaf modules with reset_parameters() as Conv, "
            f"Linear and BatchNorm have; these own parameters otherwise: {', '.join(strange)}"
        )
    if not owning:
        raise NetprobeError(f"{type(model).__name__} has no layer with parameters, so there is nothing to train")
    _refuse_shared(owning)
    return [
        Layer(said(model, path), path, type(m).__name__, sum(p.numel() for p in m.parameters())) for path, m in owning
    ]


def said(model: nn.Module, path: str) -> str:
    """The name of the module at `path`, as people say it."""
    return path.removeprefix("net.") if isinstance(model, Normalized) else path


def _owns(module: nn.Module) -> bool:
    """Whether it has parameters of its own, or running statistics, which training changes too."""
    return any(True for _ in module.parameters(recurse=False)) or getattr(module, "running_mean", None) is not None


def _resettable(module: nn.Module) -> bool:
    lazy = any(isinstance(p, nn.parameter.UninitializedTensorMixin) for p in module.parameters(recurse=False))
    return not lazy and not any(module.children()) and callable(getattr(module, "reset_parameters", None))


def _refuse_shared(owning: list[tuple[str, nn.Module]]) -> None:
    owner: dict[int, str] = {}
    for path, module in owning:
        for parameter in module.parameters():
            other = owner.setdefault(id(parameter), path)
            if other != path:
                raise NetprobeError(f"layers {other} and {path} share a weight, which cannot be frozen and trained")


def cutoff_at(model: nn.Module, cutoff: int | str) -> int:
    """How many layers are EARLY: a number itself, or those that a model registers before the module of that name.

    A name may be that of a layer, of a container or of a module without parameters (VGG's `features.2` is the place
    after `features.1`), with or without "before"; "end" is after all. NetprobeError for anything else.
    """
    layers = layers_of(model)
    if isinstance(cutoff, str):
        return _before(model, layers, cutoff.strip().removeprefix(BEFORE).strip())
    if isinstance(cutoff, bool) or not isinstance(cutoff, int) or not 0 <= cutoff <= len(layers):
        raise NetprobeError(f"cutoff={cutoff!r}: give a number of early layers from 0 to {len(layers)}, or a name")
    return cutoff


def _before(model: nn.Module, layers: list[Layer], name: str) -> int:
    if name == END:
        return len(layers)
    early, own = 0, {layer.path for layer in layers}
    for path, _ in model.named_modules():
        if path and name in (path, said(model, path)):
            return early
        early += path in own
    raise unknown("cutoff", name, [*(layer.name for layer in layers), END], "Name a module, or give a number.")


def block_cutoffs(model: nn.Module) -> list[int]:
    """The interior cutoffs that split no block.

    A block is the outermost module beside others of a class that occurs again and again: a residual block with its
    shortcut. Layers outside such blocks go with the convolution or linear layer that they follow.
    """
    layers, blocks = layers_of(model), _blocks(model)
    own = [next((above for above in _ancestors(layer.path) if above in blocks), "") for layer in layers]
    begins = [not _follows(model, layer) for layer in layers]
    return [at for at in range(1, len(layers)) if own[at] != own[at - 1] or (not own[at] and begins[at])]


def _blocks(model: nn.Module) -> set[str]:
    """Paths of the composed modules of a class that occurs more than once, and of those in a container with them."""
    composed = {path: module for path, module in model.named_modules() if path and _composed(module)}
    often = {kind for kind, count in Counter(map(type, composed.values())).items() if count > 1}
    repeated = {path for path, module in composed.items() if type(module) in often}
    held = {parent for parent in map(_parent, repeated) if _container(model.get_submodule(parent))}
    return repeated | {path for path in composed if _parent(path) in held}


def _composed(module: nn.Module) -> bool:
    return any(module.children()) and not _container(module)


def _container(module: nn.Module) -> bool:
    return type(module) is nn.Sequential or isinstance(module, nn.ModuleList | nn.ModuleDict)


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _ancestors(path: str) -> Iterator[str]:
    """Of a.b.c: a, then a.b."""
    parts = path.split(".")
    return (".".join(parts[:depth]) for depth in range(1, len(parts)))


def _follows(model: nn.Module, layer: Layer) -> bool:
    """Whether the layer normalises or shapes what another one computes: its parameters are vectors."""
    return all(p.ndim < 2 for p in model.get_submodule(layer.path).parameters())


def cutoffs_of(model: nn.Module, cutoffs: str | Iterable[int | str]) -> list[int]:
    """Numbers of early layers, ascending: "all" (every interior one), "blocks", or several as `cutoff_at` takes them.

    As text they are separated by commas: "0,4,8" or "conv2,layer3".
    """
    if cutoffs == "all":
        return list(range(1, len(layers_of(model))))
    if cutoffs == "blocks":
        return block_cutoffs(model)
    several = re.split(r",\s*", cutoffs.strip(", ")) if isinstance(cutoffs, str) else list(cutoffs)
    read = [int(c) if isinstance(c, str) and c.isdigit() else c for c in several if c != ""]
    if not read:
        raise NetprobeError(f"cutoffs={cutoffs!r}: write all, blocks, or some, for example 0,4,8 or conv2,end")
    return sorted({cutoff_at(model, cutoff) for cutoff in read})
