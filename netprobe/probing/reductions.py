"""Norms of images and sparsity at locations.

Float32 on the CPU goes to `fused.py`. Everything else is done here, in cache-sized pieces, or fused into one pass by
torch.compile.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from netprobe.probing import fused as cpu

CHUNK = 1 << 17
"""Elements handled at a time: half a MiB in float32, within one core's second-level cache."""

ORDERS = ("1", "2", "inf")

_fusing = False


@contextlib.contextmanager
def compiling(on: bool) -> Iterator[None]:
    """Inside, torch.compile makes one pass of what would be about eight, if `on`, where `fused.py` does not.

    The first use on a machine compiles for about half a minute (torch keeps the result on disk), and needs Triton on a
    GPU or, for float64 on the CPU, a C++ compiler.
    """
    global _fusing
    before, _fusing = _fusing, on
    # every rank of shape with an axis of length one is a graph of its own, so networks need more than the usual eight
    limit = torch._dynamo.config.patch(recompile_limit=64) if on else contextlib.nullcontext()
    try:
        with limit:
            yield
    finally:
        _fusing = before


def condition_norms(x: Tensor, orders: tuple[str, ...] = ORDERS) -> Tensor:
    """||x_0||_p of condition 0 and ||x_c - x_0||_p of the others: (condition, n, ...) -> (n, condition, order)."""
    if cpu.fits(x):
        return cpu.condition_norms(x, _columns(orders))
    flat = x.flatten(2)
    if _fusing:
        return _compiled(_condition_norms)(flat).transpose(0, 1)[..., _columns(orders)]
    clean, out = flat[0], flat.new_empty(*flat.shape[:2], len(orders))
    for part in _pieces(clean):
        _norms_of_piece(clean[part], orders, out[0, part])
        for perturbed, place in zip(flat[1:], out[1:], strict=True):
            _norms_of_piece(perturbed[part] - clean[part], orders, place[part])
    return out.transpose(0, 1)


def location_hoyer(rows: Tensor) -> Tensor:
    """Mean squared-Hoyer ratio over locations that are not all zero, and the share that is: (condition, n, L, C) ->
    (n, condition, 2).

    NaN where all locations are zero, or for one channel.
    """
    if cpu.fits(rows):
        return cpu.location_hoyer(rows)
    images = rows.flatten(0, 1)
    values = _compiled(_hoyer)(images) if _fusing else _hoyer_in_pieces(images)
    return values.unflatten(0, rows.shape[:2]).transpose(0, 1)


def norms_and_hoyer(rows: Tensor, orders: tuple[str, ...] = ORDERS) -> tuple[Tensor, Tensor]:
    """`condition_norms` and `location_hoyer` of (condition, n, L, C), on the CPU from one reading."""
    if cpu.fits(rows):
        return cpu.norms_and_hoyer(rows, _columns(orders))
    return condition_norms(rows, orders), location_hoyer(rows)


def _hoyer_in_pieces(rows: Tensor) -> Tensor:
    absolute, squared = (rows.new_empty(rows.shape[:2]) for _ in range(2))
    ones = rows.new_ones(rows.shape[2])
    for part in _pieces(rows):
        scratch = torch.abs(rows[part])  # one matrix-vector product sums over channels faster than sum(-1) does
        torch.matmul(scratch, ones, out=absolute[part])
        torch.matmul(torch.mul(rows[part], rows[part], out=scratch), ones, out=squared[part])
    return _hoyer_of_sums(absolute, squared, rows.shape[2])


@functools.cache
def _columns(orders: tuple[str, ...]) -> slice | list[int]:
    """Where `orders` are among `ORDERS`; a slice if possible, which needs no copy."""
    first = ORDERS.index(orders[0])
    following = slice(first, first + len(orders))
    return following if ORDERS[following] == orders else [ORDERS.index(order) for order in orders]


def _pieces(x: Tensor) -> Iterator[slice]:
    step = max(1, CHUNK // max(1, x[0].numel())) if len(x) else 1
    return (slice(start, start + step) for start in range(0, len(x), step))


def _norms_of_piece(x: Tensor, orders: tuple[str, ...], out: Tensor) -> None:
    absolute = x.abs() if orders != ("2",) else x  # torch's own vector_norm(ord=1, inf) is 8 to 50 times slower
    for column, order in enumerate(orders):
        if order == "2":
            torch.linalg.vector_norm(x, dim=1, out=out[:, column])
        else:
            out[:, column] = absolute.sum(1) if order == "1" else absolute.amax(1)


def _condition_norms(flat: Tensor) -> Tensor:
    perturbed = torch.arange(len(flat), device=flat.device)[:, None, None] > 0
    x = flat - torch.where(perturbed, flat[0], 0)
    absolute = x.abs()
    return torch.stack([absolute.sum(2), (x * x).sum(2).sqrt(), absolute.amax(2)], 2)


def _hoyer(rows: Tensor) -> Tensor:
    return _hoyer_of_sums(rows.abs().sum(-1), (rows * rows).sum(-1), rows.shape[-1])


def _hoyer_of_sums(absolute: Tensor, squared: Tensor, channels: int) -> Tensor:
    silent = squared == 0
    ratio = (absolute * absolute / squared - 1) / (channels - 1 if channels > 1 else torch.nan)
    spoken = (~silent).sum(1)
    mean = ratio.masked_fill(silent, 0).sum(1) / torch.where(spoken > 0, spoken, torch.nan)
    return torch.stack([mean, silent.to(mean.dtype).mean(1)], -1)


@functools.cache
def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(function, dynamic=True)
