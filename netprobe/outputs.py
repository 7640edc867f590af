"""Read what a model returns: the logits, whatever they are wrapped in."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from netprobe.errors import NetprobeError


def logits_of(output: object, images: int | None = None) -> Tensor:
    """The (N, K) logits in a model's `output`.

    Understood: a tensor; a mapping with the key "logits"; an object with the attribute `logits`; a tuple or
    list, whose first tensor counts. Anything else, a shape other than (N, K) with K >= 2, another N than
    `images`, or whole numbers, is a `NetprobeError` that says what came instead.
    """
    logits = _unwrapped(output)
    if logits is None:
        raise NetprobeError(f"the model returned {_described(output)}, in which there are no logits: {_REMEDY}")
    if logits.ndim != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise NetprobeError(f"the model's logits are {_described(logits)}, not floats of shape (N, K >= 2): {_REMEDY}")
    if images is not None and len(logits) != images:
        raise NetprobeError(f"the model returned {len(logits)} rows of logits for {images} images: {_REMEDY}")
    return logits


_REMEDY = "wrap the model in one that returns an (N, K) tensor, one row of class scores an image."


def _unwrapped(output: object) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        candidates = [output.get("logits")]
    elif hasattr(output, "logits"):
        candidates = [output.logits]
    else:
        candidates = output if isinstance(output, (tuple, list)) else []
    return next((c for c in candidates if isinstance(c, Tensor)), None)


def _described(output: object) -> str:
    if isinstance(output, Tensor):
        return f"a {str(output.dtype).removeprefix('torch.')} tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with the keys {', '.join(map(repr, output)) or 'none'}"
    if isinstance(output, (tuple, list)):
        return f"a {type(output).__name__} of {', '.join(type(part).__name__ for part in output) or 'nothing'}"
    return f"a {type(output).__name__}"


def widened(tensor: Tensor) -> Tensor:
    """`tensor` in float64, where its device has float64; otherwise in float32."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)
