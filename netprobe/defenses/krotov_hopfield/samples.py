"""What a layer learns from: its inputs, or patches of them, of unit norm."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.devices import batch_size, device_of
from netprobe.errors import NetprobeError
from netprobe.guard import full_precision, undisturbed

FAINT = 0.01
"""Samples whose norm is below so much of the mean norm are left out: their direction is rounding or noise."""


class _Reached(Exception):
    """Ends a forward pass at the layer; nothing behind it is needed."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x


def layer_samples(
    model: nn.Module,
    layer: nn.Linear | nn.Conv2d,
    data: Data,
    *,
    p: float,
    patches: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> Tensor:
    """What enters `layer` for all of `data`, in eval mode, divided by its L_p norm: (M, D) on the model's device.

    Of a convolution's input `patches` random places an image, C x height x width values each, padding included. Only
    the direction of a sample matters to the rule's ranks; the layer itself divides nothing.

    Memory: all samples in float32, 190 MB for MNIST, 610 MB for CIFAR-10.
    """
    chance, device, found = torch.Generator().manual_seed(seed), device_of(model), []
    with (
        undisturbed(model),
        full_precision(),
        torch.no_grad(),
        tqdm(total=len(data), desc="inputs", unit="image", disable=not progress) as bar,
    ):
        for batch in data.batches(batch_size(data.shape, 1, device), device):
            x = _entering(model, layer, batch.x)
            found.append(_patches(layer, x, patches, chance) if isinstance(layer, nn.Conv2d) else x.flatten(0, -2))
            bar.update(len(batch.x))
    return _scaled(torch.cat(found), p)


def _entering(model: nn.Module, layer: nn.Module, x: Tensor) -> Tensor:
    def stop(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        raise _Reached(args[0])

    hook = layer.register_forward_pre_hook(stop)
    try:
        model(x)
    except _Reached as reached:
        return reached.x
    finally:
        hook.remove()
    raise NetprobeError(f"the {type(layer).__name__} to learn does not run on these inputs")


def _patches(conv: nn.Conv2d, x: Tensor, count: int, chance: torch.Generator) -> Tensor:
    """`count` random patches an image, with repeats: (N count, C kh kw)."""
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    padded = pad(x, conv._reversed_padding_repeated_twice, mode)
    columns = unfold(padded, conv.kernel_size, conv.dilation, stride=conv.stride)
    places = torch.randint(columns.shape[2], (len(x), 1, count), generator=chance).to(x.device)
    return columns.gather(2, places.expand(-1, columns.shape[1], -1)).transpose(1, 2).flatten(0, 1)


def _scaled(samples: Tensor, p: float) -> Tensor:
    norms = torch.linalg.vector_norm(samples, p, dim=1)
    kept = norms > FAINT * norms.mean()
    if not kept.any():
        raise NetprobeError("nothing but zeros enters the layer to learn: look at the images, and at what comes before")
    if not kept.all():
        samples, norms = samples[kept], norms[kept]
    return samples.div_(norms[:, None])


def patch_seed(seed: int) -> int:
    """Of the places of patches, a stream of its own of a training's seed."""
    return int(np.random.SeedSequence((seed, 2)).generate_state(1)[0])
