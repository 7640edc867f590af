"""Layers of every kind, small, and the slow, obvious way to their singular values: the module's own matrix."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from netprobe.weights.operators import ConvOperator, operator_of

EVEN_KERNEL = "Using padding='same' with even kernel"

LAYERS: dict[str, tuple] = {
    # name: (module, input shape); axes of different lengths throughout
    "plain": (lambda: nn.Conv2d(3, 4, 3, padding=1), (3, 6, 5)),
    "more inputs than outputs": (lambda: nn.Conv2d(5, 2, 3, padding=1), (5, 5, 4)),
    "valid": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 5)),
    "valid by name": (lambda: nn.Conv2d(3, 4, (2, 3), padding="valid"), (3, 6, 5)),
    "same": (lambda: nn.Conv2d(3, 4, 3, padding="same"), (3, 6, 5)),
    "same, even kernel": (lambda: nn.Conv2d(3, 4, (4, 2), padding="same"), (3, 6, 5)),
    "same, dilated even kernel": (lambda: nn.Conv2d(2, 3, (2, 3), padding="same", dilation=(3, 2)), (2, 7, 6)),
    "padding by axis": (lambda: nn.Conv2d(3, 4, (3, 5), padding=(0, 2)), (3, 6, 5)),
    "padding beyond the kernel": (lambda: nn.Conv2d(2, 3, 2, padding=3), (2, 4, 3)),
    "circular": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), (3, 6, 5)),
    "circular, even kernel": (lambda: nn.Conv2d(3, 4, (2, 4), padding="same", padding_mode="circular"), (3, 6, 5)),
    "circular, strided": (lambda: nn.Conv2d(3, 4, 3, 2, 1, padding_mode="circular"), (3, 6, 8)),
    "circular, growing": (lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="circular"), (2, 5, 4)),
    "circular, kernel as large as the input": (
        lambda: nn.Conv2d(2, 3, (5, 3), padding=(2, 1), padding_mode="circular"),
        (2, 4, 5),
    ),
    "strided": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (3, 6, 8)),
    "stride that does not divide": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (3, 7, 5)),
    "strides by axis": (lambda: nn.Conv2d(3, 4, (3, 2), stride=(3, 1), padding=(1, 0)), (3, 9, 5)),
    "strided, many outputs": (lambda: nn.Conv2d(2, 11, 3, stride=2, padding=1), (2, 6, 4)),
    "dilated": (lambda: nn.Conv2d(3, 4, 3, padding=2, dilation=2), (3, 6, 5)),
    "dilated and strided": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=3, dilation=3), (3, 8, 6)),
    "grouped": (lambda: nn.Conv2d(6, 4, 3, padding=1, groups=2), (6, 5, 4)),
    "grouped and strided": (lambda: nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=4), (4, 6, 4)),
    "depthwise": (lambda: nn.Conv2d(5, 5, 3, padding=1, groups=5), (5, 5, 4)),
    "1x1": (lambda: nn.Conv2d(3, 5, 1), (3, 4, 5)),
    "1x1, strided": (lambda: nn.Conv2d(3, 5, 1, stride=2), (3, 5, 4)),
    "1x1, padded": (lambda: nn.Conv2d(3, 5, 1, padding=1), (3, 3, 4)),
    "1x1, grouped": (lambda: nn.Conv2d(4, 6, 1, groups=2), (4, 3, 4)),
    "patches": (lambda: nn.Conv2d(3, 5, 4, stride=4), (3, 8, 9)),
    "patches, padded": (lambda: nn.Conv2d(3, 5, 3, stride=3, padding=1), (3, 8, 7)),
    "one output": (lambda: nn.Conv2d(3, 5, (4, 5)), (3, 4, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 3, padding=1), (3, 5, 4)),
    "transposed, strided": (lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), (3, 4, 3)),
    "transposed, grouped": (lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (4, 3, 4)),
    "transposed, dilated": (
        lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, dilation=3, output_padding=2, padding=1),
        (2, 4, 3),
    ),
    "1-D": (lambda: nn.Conv1d(3, 4, 3, padding=1), (3, 9)),
    "1-D, strided, dilated": (lambda: nn.Conv1d(3, 4, 3, stride=3, dilation=2, padding=2), (3, 12)),
    "1-D, transposed": (lambda: nn.ConvTranspose1d(3, 2, 4, stride=2, padding=1), (3, 6)),
    "3-D": (lambda: nn.Conv3d(2, 2, 3, padding=1), (2, 4, 3, 2)),
    "linear": (lambda: nn.Linear(7, 4), (7,)),
}


def layer(name: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, tuple[int, ...]]:
    """A layer of that kind with fixed random weights, and the shape of its inputs."""
    build, shape = LAYERS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().to(dtype), shape


def matrix(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix of a module's linear part, (output, input), by what it does to unit vectors."""
    with torch.no_grad():
        module = module.double()
        basis = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).reshape(-1, *shape)
        return (module(basis) - module(torch.zeros_like(basis))).flatten(1).T


def reference(module: nn.Module, shape: tuple[int, ...]) -> np.ndarray:
    """Its singular values by numpy, descending."""
    return np.linalg.svd(matrix(module, shape).numpy(), compute_uv=False)


def operator(module: nn.Module, shape: tuple[int, ...]) -> ConvOperator:
    """Its operator, as netprobe sees it."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", EVEN_KERNEL)
        return operator_of(module, shape, module(torch.zeros(1, *shape, dtype=module.weight.dtype)).shape[1:])


def circulant(op: ConvOperator) -> np.ndarray:
    """The matrix of a periodic operator, entry by entry from its definition, (output, input)."""
    weight = op.weight.double().numpy()
    inputs, outputs = (weight.shape[1] * op.groups, *op.input_size), (weight.shape[0], *op.output_size)
    result = np.zeros((*outputs, *inputs))
    for o, c, *taps in np.ndindex(*weight.shape):
        channel = c + o // (outputs[0] // op.groups) * weight.shape[1]
        for place in np.ndindex(*op.output_size):
            sizes = zip(place, taps, op.stride, op.dilation, op.input_size, strict=True)
            source = tuple((s * i + d * t) % n for i, t, s, d, n in sizes)
            result[(o, *place, channel, *source)] += weight[(o, c, *taps)]
    return result.reshape(np.prod(outputs), -1)
