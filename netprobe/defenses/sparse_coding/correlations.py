"""How a patch correlates with the atoms of a dictionary, and with the first filters of a network."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import conv2d

from netprobe.defenses.sparse_coding.views import encoder_of, located
from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.metrics.base import variable

BINS = 50


def patch_correlations(
    model: nn.Module, classifier: nn.Module, image: Tensor, patch: tuple[int, int] | None = None
) -> xr.Dataset:
    """Correlations of one patch of `image` (C, H, W) with unit-norm filters: atoms, and those of a first convolution.

    Parameters
    ----------
    model : a network of `SparseCodingDefense`.
    classifier : a standard network; the responses of its first convolution, without bias, are divided by the L2 norms
        of its filters, and taken at the position whose centre is the patch's, or half a pixel before it.
    patch : row and column among the patches; None is one in the middle.

    Returns a Dataset over `source`:
        density(source, bin)  50 bins on a symmetric range, the same for all, each of integral 1
        peakedness(source)    mean |c| / max |c|, in (0, 1]; larger: fewer values near 0; NaN where all are 0
    The sources: the atoms and the patch; the atoms and the patch without its mean, for much of the former is brightness
    alone; the filters and what the network feeds them, normalised; the filters and the raw pixels, which is what the
    atoms see.

    Bakiskan 2022, section 4.2. The public code takes two whole rows of positions of normalised inputs instead of one.
    """
    encoder = encoder_of(model)
    x = image[None].to(encoder.dictionary)
    with undisturbed(model), undisturbed(classifier), torch.no_grad():
        across = encoder.project(x).shape[1:3]
        place = located(patch, across)
        vector = encoder.patches(x)[0, place[0], place[1]]
        atoms = encoder.dictionary.flatten(1)
        first, fed = _first_convolution(classifier, x)
        centre = [encoder.stride * at + (encoder.patch - 1) / 2 for at in place]
        values = {
            "atoms": atoms @ vector,
            "atoms, mean removed": atoms @ (vector - vector.mean()),
            "first convolution": _responses(first, fed, centre),
            "first convolution, raw pixels": _responses(first, x.to(fed), centre),
        }
    return _dataset({name: found.double().cpu().numpy() for name, found in values.items()}, place)


def _first_convolution(classifier: nn.Module, x: Tensor) -> tuple[nn.Conv2d, Tensor]:
    """The convolution that runs first, and what it is fed."""
    met: list[tuple[nn.Conv2d, Tensor]] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, args: met.append((module, args[0])))
        for module in classifier.modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        classifier(x.to(next(classifier.parameters())))
    finally:
        for hook in hooks:
            hook.remove()
    if not met or met[0][0].weight.shape[1] != met[0][1].shape[1]:
        raise NetprobeError(f"a {type(classifier).__name__} has no first convolution over all channels to compare with")
    return met[0]


def _responses(first: nn.Conv2d, x: Tensor, centre: list[float]) -> Tensor:
    """Of every filter, divided by its norm, at the last position whose centre is not behind `centre`, in pixels."""
    weight = first.weight / first.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    padding = "same" if first.padding == "same" else first.padding
    out = conv2d(x, weight, None, first.stride, padding, first.dilation, first.groups)[0]
    at = [_position(first, axis, c, out.shape[1 + axis]) for axis, c in enumerate(centre)]
    return out[:, at[0], at[1]]


def _position(first: nn.Conv2d, axis: int, centre: float, most: int) -> int:
    extent = first.dilation[axis] * (first.kernel_size[axis] - 1)
    padded = {"same": extent // 2, "valid": 0}.get(first.padding) if isinstance(first.padding, str) else None
    before = first.padding[axis] if padded is None else padded
    return min(max(int((centre + before - extent / 2) // first.stride[axis]), 0), most - 1)


def _dataset(values: dict[str, np.ndarray], place: tuple[int, int]) -> xr.Dataset:
    largest = [np.abs(found).max() for found in values.values()]
    reach = max(largest) or 1.0
    densities = [np.histogram(found, BINS, (-reach, reach), density=True)[0] for found in values.values()]
    with np.errstate(invalid="ignore"):
        peaked = [np.abs(found).mean() / most for found, most in zip(values.values(), largest, strict=True)]
    edges = np.linspace(-reach, reach, BINS + 1)
    found = {
        "density": variable("source bin", np.stack(densities), "density", "1", "of integral 1 over correlations"),
        "peakedness": variable("source", np.array(peaked), "mean over largest", "1", "mean |c| / max |c|"),
    }
    coords = {"source": list(values), "bin": (edges[:-1] + edges[1:]) / 2}
    return xr.Dataset(found, coords, {"title": "correlations of a patch", "row": place[0], "column": place[1]})
