"""Arrays of any convention, checked and brought to the one that `Data` keeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netprobe.errors import NetprobeError, unknown

LAYOUTS = {"NCHW": (0, 1, 2, 3), "NHWC": (0, 3, 1, 2), "NHW": (0, 1, 2), "NL": (0, 1)}
CHANNELS = (1, 3)  # numbers of channels that an image is expected to have
ROUND_OFF = 1e-3  # beyond [0, 1] by less than this looks like arithmetic, not like another scale


def as_labels(y: Any) -> np.ndarray:
    """(N,) int64, or an error when these are not class indices."""
    labels = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        hint = "one-hot labels: y.argmax(1)" if labels.ndim == 2 else "one label a sample is needed"
        raise NetprobeError(f"labels must have shape (N,), got {labels.shape}; {hint}")
    if labels.dtype.kind not in "iu" or not len(labels):
        raise NetprobeError(
            f"labels must be integers, at least one; got {len(labels)} of {labels.dtype}. "
            "If they are class indices, convert them: y.astype('int64')"
        )
    if labels.min() < 0:
        raise NetprobeError(f"labels must not be negative, the smallest is {labels.min()}: number the classes from 0")
    return labels.astype(np.int64)


def class_names(labels: np.ndarray, classes: Iterable[str] | None) -> tuple[str, ...]:
    """The given names, or "0", "1", ... up to the largest label."""
    if isinstance(classes, str):
        raise NetprobeError(f"classes must be a sequence of names, got the string {classes!r}")
    needed = int(labels.max()) + 1
    names = tuple(map(str, range(needed) if classes is None else classes))
    if len(names) < needed:
        raise NetprobeError(f"the largest label is {needed - 1} but there are only {len(names)} class names")
    return names


def layout_of(x: Any, layout: str | None = None) -> str:
    """What the dims of `x` mean: the given layout if it fits, else the only plausible one."""
    if layout is not None:
        if layout not in LAYOUTS:
            raise unknown("layout", layout, LAYOUTS)
        if len(layout) != x.ndim:
            raise NetprobeError(f"layout={layout!r} needs {len(layout)} dims, the inputs are {tuple(x.shape)}")
        return layout
    if x.ndim == 2:
        return "NL"
    if x.ndim == 3 and x.shape[1] != 1:
        return "NHW"
    if x.ndim == 4:
        return _channel_layout(x)
    raise NetprobeError(
        f"inputs of shape {tuple(x.shape)} are neither images (N, C, H, W) nor waveforms (N, L): reshape "
        f"them, e.g. x.squeeze(1), or say what the dims are with layout=, one of {', '.join(LAYOUTS)}"
    )


def as_inputs(x: Any, layout: str) -> Tensor:
    """`x` (taken over, not copied) as `Data` stores it: (N, C, H, W) or (N, L), its values checked."""
    tensor = x.detach().cpu() if isinstance(x, Tensor) else torch.from_numpy(_native(x))
    tensor = tensor.permute(LAYOUTS[layout])
    if layout == "NHW":
        tensor = tensor.unsqueeze(1)
    integers = torch.int16 if layout == "NL" else torch.uint8
    if tensor.dtype != integers:
        tensor = _checked_floats(tensor, integers, low=-1 if layout == "NL" else 0)
    return tensor.contiguous()


def _channel_layout(x: Any) -> str:
    nchw, nhwc = x.shape[1] in CHANNELS, x.shape[3] in CHANNELS
    if isinstance(x, Tensor):
        if nchw or not nhwc:
            return "NCHW"
    elif nchw != nhwc:
        return "NCHW" if nchw else "NHWC"
    raise NetprobeError(
        f"inputs of shape {tuple(x.shape)} could be (N, C, H, W) or (N, H, W, C): "
        "say which with layout='NCHW' or layout='NHWC'"
    )


def _checked_floats(tensor: Tensor, integers: torch.dtype, low: float) -> Tensor:
    kind = "waveforms" if integers is torch.int16 else "images"
    if not tensor.is_floating_point():
        hint = "flattened images must be reshaped to (N, C, H, W); " if kind == "waveforms" else ""
        raise NetprobeError(
            f"{kind} must be {integers} or floats in [{low}, 1], got {tensor.dtype}; {hint}"
            "convert the integers, or divide them by their full scale"
        )
    if not tensor.isfinite().all():
        raise NetprobeError(f"{int((~tensor.isfinite()).sum())} input values are NaN or infinite")
    smallest, largest = float(tensor.min()), float(tensor.max())
    if smallest < low or largest > 1:
        raise NetprobeError(
            f"{kind} must lie in [{low}, 1], these in [{smallest:.6g}, {largest:.6g}]: "
            + _remedy(smallest, largest, low)
        )
    return tensor.to(torch.float32)


def _remedy(smallest: float, largest: float, low: float) -> str:
    if smallest >= low - ROUND_OFF and largest <= 1 + ROUND_OFF:
        return f"if that is round-off, x.clip({low}, 1)"
    if low < 0:
        return "divide by full scale (32768 for 16 bits) or by the peak"
    if smallest >= 0:
        return "divide by 255, or pass them as uint8" if largest <= 255 else "divide by their full scale"
    return (
        "if they were normalised, undo it (x * std + mean) and let the model normalise: "
        "netprobe.load(..., normalize=(mean, std))"
    )


def _native(x: np.ndarray) -> np.ndarray:
    """Numbers in the machine's byte order, as torch wants them."""
    if x.dtype.kind not in "biuf":
        raise NetprobeError(f"inputs must be numbers, got {x.dtype}")
    return x.astype(x.dtype.newbyteorder("="), copy=False)
