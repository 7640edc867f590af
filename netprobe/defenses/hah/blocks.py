"""The blocks of HaH networks, and how their loss is told while a network runs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from netprobe.defenses.hah.convolution import REACHES, NormalizedConv2d, Response, rectified_response
from netprobe.defenses.hah.threshold import ROUNDING, AdaptiveThreshold
from netprobe.errors import NetprobeError


class HaHBlock(nn.Module):
    """x -> convolution by unit filters -> ReLU -> `norm` -> `threshold`.

    norm : `DivisiveNorm`, or batch norm for the ablation.
    top : share of the channels of a place that the HaH loss raises, K = ceil(top C); the others it lowers.

    Sites: the block itself and its `threshold` (what it puts out), `norm`, `conv` (before ReLU), `conv:in` (what it
    gets). Inside `hebbian_responses`, where convolution and ReLU are one operation, hooks on `conv` are not called.
    """

    def __init__(self, conv: NormalizedConv2d, norm: nn.Module, threshold: AdaptiveThreshold, top: float = 0.1) -> None:
        super().__init__()
        if not 0 < top < 1 or conv.out_channels <= strongest(conv.out_channels, top):
            raise NetprobeError(
                f"of {conv.out_channels} channels the strongest {strongest(conv.out_channels, top)} (top={top:g}) are "
                "raised and the others lowered: there must be others"
            )
        self.conv, self.norm, self.threshold, self.top = conv, norm, threshold, float(top)
        self._responses: list[Response] | None = None
        self._reach = REACHES[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.threshold(self.norm(self._rectified(x)))

    def _rectified(self, x: Tensor) -> Tensor:
        if self._responses is None:
            return torch.relu(self.conv(x))
        response = rectified_response(self.conv, x, strongest(self.conv.out_channels, self.top), self._reach)
        self._responses.append(response)
        return response.y

    def extra_repr(self) -> str:
        return f"top={self.top:g}"


class StandardBlock(nn.Module):
    """x -> convolution by unit filters -> ReLU -> batch norm: the standard block of the HaH networks.

    Sparsity is that of `relu`: outputs of batch norm are dense and signed.
    """

    def __init__(self, conv: NormalizedConv2d, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.relu, self.norm = conv, nn.ReLU(), norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.relu(self.conv(x)))


def strongest(channels: int, top: float) -> int:
    """K = ceil(top C)."""
    return math.ceil(top * channels - ROUNDING)


@contextlib.contextmanager
def hebbian_responses(model: nn.Module, reach: str = "own") -> Iterator[list[Response]]:
    """Inside, a list that the HaH blocks of `model` add their `Response` to, in the order in which they run.

    reach : what the means of a response have a gradient in: "own", the filters of their block; "all", what it gets too.
    """
    responses: list[Response] = []
    blocks = [module for module in model.modules() if isinstance(module, HaHBlock)]
    try:
        for block in blocks:
            block._responses, block._reach = responses, reach
        yield responses
    finally:
        for block in blocks:
            block._responses, block._reach = None, REACHES[0]
