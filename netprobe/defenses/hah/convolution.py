"""Convolution by filters of unit norm, and how far its strongest responses stand out, for the HaH loss."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from netprobe.defenses.hah.selecting import kth_smallest
from netprobe.errors import unknown

TINY = 1e-6
"""Keeps a filter of zeros from dividing by zero."""
REACHES = ("own", "all")
"""What the HaH loss of a block trains: its own filters, or what comes before it too."""


class NormalizedConv2d(nn.Conv2d):
    """h_k = (w_k * x) / (||w_k||_2 + 1e-6), without bias: (N, C_in, H, W) -> (N, C, H', W').

    The norm is a part of the graph and w is free (`weight` holds it as it is), so only the direction of a filter
    matters. The filters are divided by their norms, not the outputs, which comes to the same and is cheaper by as much
    as there are fewer weights than outputs. Cekic, Bakiskan and Madhow, arXiv 2202.13074, eq. 1.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Self:
        """That of the very weights of `conv`, whose bias is left out."""
        sizes = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
        made = cls(*sizes, conv.groups, bias=False, padding_mode=conv.padding_mode, device="meta")  # draws no numbers
        made.weight = conv.weight
        return made.train(conv.training)

    def effective_weight(self) -> Tensor:
        """The filters that inputs meet, w_k / (||w_k||_2 + 1e-6); analyses of weights read these."""
        return self.weight / (torch.linalg.vector_norm(self.weight, dim=(1, 2, 3), keepdim=True) + TINY)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.effective_weight(), None)


class Response(NamedTuple):
    """What rectified convolution gives, and its mean over images and places of the strongest and other channels."""

    y: Tensor
    top: Tensor
    rest: Tensor


def rectified_response(conv: NormalizedConv2d, x: Tensor, strongest: int, reach: str = "own") -> Response:
    """y = ReLU(conv(x)), and the means of the `strongest` largest channels of every place and of the others.

        top = mean over images and places of 1/K sum_{k <= K} y^(k),   rest = ... of 1/(C - K) sum_{k > K} y^(k)

    y^(1) >= y^(2) >= ... the channels of a place in order. y has its full gradient. `top` and `rest` have one in the
    filters of `conv` alone and none in x, as if they were made from conv(x.detach()): but nothing is computed twice,
    their gradient joins that of y where the filters' is made. With reach="all" they have their gradient in x as well.
    Channels that are equal to the K-th count as its like.

    Cost beyond the convolution: the K-th largest of every place; no further tensor of the size of y is kept.
    """
    if reach not in REACHES:
        raise unknown("reach of the HaH loss", reach, REACHES)
    dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
    with torch.autocast(x.device.type, enabled=False):
        filters = conv.effective_weight().to(dtype)
        x, padding = _padded(conv, x.to(dtype))
        geometry = (conv.stride, padding, conv.dilation, conv.groups)
        found = _RectifiedResponse.apply(x, filters, geometry, strongest, reach == "all")
    return Response(*found)


def _padded(conv: NormalizedConv2d, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """x with the padding that is not zeros of equal numbers on both sides, and how much of these is still to come."""
    if conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
        return x, conv.padding
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return pad(x, conv._reversed_padding_repeated_twice, mode), (0, 0)


class _RectifiedResponse(torch.autograd.Function):
    """Kept between passes: x, the filters, y, and the K-th largest of every place."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        filters: Tensor,
        geometry: tuple,
        strongest: int,
        everywhere: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.conv2d(x, filters, None, *geometry).relu_()
        channels, places, wide = y.shape[1], y.numel() // y.shape[1], torch.promote_types(y.dtype, torch.float32)
        least = kth_smallest(y.permute(0, 2, 3, 1), channels - strongest + 1).permute(0, 3, 1, 2)
        ctx.save_for_backward(x, filters, y, least)
        ctx.geometry, ctx.parts = geometry, (strongest * places, (channels - strongest) * places)
        ctx.everywhere = everywhere
        top = (y - least).relu_().sum(dtype=wide) + strongest * least.sum(dtype=wide)
        return y, top / ctx.parts[0], (y.sum(dtype=wide) - top) / ctx.parts[1]

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, of_y: Tensor, of_top: Tensor, of_rest: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, filters, y, _ = ctx.saved_tensors
        of_x = of_filters = None
        full = _of_all(ctx, of_y, of_top, of_rest) if ctx.everywhere or ctx.needs_input_grad[1] else None
        if ctx.needs_input_grad[0]:
            of_h = full if ctx.everywhere else _where_positive(of_y, y)
            of_x = _convolution_backward(ctx, of_h, x, filters, (True, False))[0]
        if ctx.needs_input_grad[1]:
            of_filters = _convolution_backward(ctx, full, x, filters, (False, True))[1]
        return of_x, of_filters, None, None, None


def _of_all(ctx: torch.autograd.function.FunctionCtx, of_y: Tensor, of_top: Tensor, of_rest: Tensor) -> Tensor:
    """The gradient of what the convolution gives, before ReLU, from y and both means together."""
    _, _, y, least = ctx.saved_tensors
    raised, lowered = (of_top / ctx.parts[0]).to(y.dtype), (of_rest / ctx.parts[1]).to(y.dtype)
    below = torch.nextafter(least, least.new_zeros(()))  # y > below: y >= least
    return _where_positive(_where_positive((raised - lowered).expand_as(y), y - below).add_(of_y).add_(lowered), y)


def _where_positive(tensor: Tensor, y: Tensor) -> Tensor:
    """`tensor` where y > 0, else 0: on a CPU several times as fast as `torch.where`."""
    return torch.ops.aten.threshold_backward(tensor, y, 0)


def _convolution_backward(
    ctx: torch.autograd.function.FunctionCtx, gradient: Tensor, x: Tensor, filters: Tensor, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    stride, padding, dilation, groups = ctx.geometry
    geometry = (stride, padding, dilation, False, (0, 0), groups)
    return torch.ops.aten.convolution_backward(gradient, x, filters, None, *geometry, (*wanted, False))
