"""Normalisation as the first layer of a model, so that everything outside it speaks in pixels of [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError, unknown

#: Per-channel mean and standard deviation of the training images, in units of [0, 1], by the name `load` takes.
STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
}

#: A name in `STATISTICS`, or (mean, std): one number for all channels or one for each.
Normalization = str | tuple[float | Sequence[float], float | Sequence[float]]


class Normalize(nn.Module):
    """(x - mean) / std for every channel of images x (N, C, H, W); same shape, no unit.

    `mean` and `std` are in units of x, that is of [0, 1]: one number for all channels or one for each.
    They are buffers: they move with `.to(device)` and are saved in the state dict, because weights without
    the statistics they were trained with are not the whole model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        mean, std = _checked(mean, std)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or len(self.mean) not in (1, x.shape[1]):
            wanted = f"(N, {len(self.mean)}, H, W)" if len(self.mean) > 1 else "(N, C, H, W)"
            raise NetprobeError(
                f"normalisation with {len(self.mean)} channel(s) got inputs of shape {tuple(x.shape)}: "
                f"give images {wanted}, or load the model with a (mean, std) that has their channels"
            )
        return (x - self.mean[:, None, None]) / self.std[:, None, None]

    def extra_repr(self) -> str:
        return f"mean={_rounded(self.mean)}, std={_rounded(self.std)}"


class Normalized(nn.Sequential):
    """A `net` that takes images of [0, 1]: first `normalize`, then `net`."""

    normalize: Normalize
    net: nn.Module

    def __init__(self, net: nn.Module, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.net = net


def statistics(normalize: Normalization) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each (C,), that `normalize` stands for: a name or a pair."""
    if isinstance(normalize, str):
        if normalize not in STATISTICS:
            raise unknown("normalisation", normalize, STATISTICS, "Or give (mean, std), in units of [0, 1].")
        normalize = STATISTICS[normalize]
    if not isinstance(normalize, tuple | list) or len(normalize) != 2:
        raise NetprobeError(f"normalize={normalize!r} is neither one of {', '.join(STATISTICS)} nor a pair (mean, std)")
    return _checked(*normalize)


def _checked(mean: object, std: object) -> tuple[Tensor, Tensor]:
    """Both as float32 vectors of one length; inputs are in [0, 1], which catches statistics of 0..255."""
    try:
        # Through float64: (0.1, 0.2) must not depend on whether it came as numbers, an array or a tensor.
        vectors = [torch.as_tensor(v, dtype=torch.float64).reshape(-1).float() for v in (mean, std)]
        mean, std = (v.clone() for v in torch.broadcast_tensors(*vectors))
    except (TypeError, ValueError, RuntimeError) as error:
        raise NetprobeError(
            f"normalisation with mean {mean!r} and std {std!r}: give one number, or one for each channel"
        ) from error
    if not (len(mean) and mean.isfinite().all() and std.isfinite().all() and (std > 0).all()):
        raise NetprobeError(
            f"normalisation with mean {_rounded(mean)} and std {_rounded(std)}: both must be finite, std above 0"
        )
    if (mean.abs() > 1).any():
        raise NetprobeError(
            f"normalisation with mean {_rounded(mean)}: inputs are in [0, 1], so divide mean and std by 255"
        )
    return mean, std


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(v, 4) for v in values.tolist())
