"""The first layer of the decoder, which reads few coefficients of many."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad

from netprobe.defenses.sparse_coding.code import Code

SPARSE = 16
"""On a CPU, coefficients are added up one by one where at most one of so many is there."""


class CodeTranspose(nn.ConvTranspose2d):
    """A transposed convolution, without padding, of a `Code`: (N, `out_channels`, H, W), H = (m - 1) stride + kernel.

    Where few coefficients are there, on a CPU, only those are multiplied, and only with their own filters: equal up
    to rounding, and two to four times as fast with 15 of 500 in training and in attacks. The kernel is then cut into
    (kernel / stride)^2 blocks of stride x stride pixels; every block of the output is the sum of the blocks that the
    patches around it contribute to it.
    """

    def forward(self, code: Code) -> Tensor:
        return self._summed(code) if self._worth_summing(code) else super().forward(code.dense())

    def _worth_summing(self, code: Code) -> bool:
        tiles = self.kernel_size[0] % self.stride[0] == 0
        few = SPARSE * code.values.shape[-1] <= code.atoms
        plain = code.values.dtype == self.weight.dtype and self.weight.dtype in (torch.float32, torch.float64)
        return tiles and few and plain and self.weight.device.type == "cpu"

    def _summed(self, code: Code) -> Tensor:
        reach, stride, channels = self.kernel_size[0] // self.stride[0], self.stride[0], self.out_channels
        blocks = self.weight.view(code.atoms, channels, reach, stride, reach, stride)
        table = blocks.permute(2, 4, 0, 3, 5, 1).reshape(reach**2 * code.atoms, stride**2 * channels)
        values, index = _around(code, reach)
        bags = embedding_bag(index.flatten(0, 2), table, mode="sum", per_sample_weights=values.flatten(0, 2))
        down, across = values.shape[1:3]
        rows = bags.view(-1, down, across, stride, stride, channels).transpose(2, 3)
        return rows.reshape(-1, down * stride, across * stride, channels).permute(0, 3, 1, 2) + self.bias.view(-1, 1, 1)


def _around(code: Code, reach: int) -> tuple[Tensor, Tensor]:
    """For every block of the output, the coefficients of the `reach`^2 patches that cover it, and their table rows."""
    edge = (0, 0, reach - 1, reach - 1, reach - 1, reach - 1)
    values, index = pad(code.values, edge), pad(code.index, edge)
    down, across = (side + reach - 1 for side in code.values.shape[1:3])
    near = [(y, x) for y in range(reach) for x in range(reach)]  # how far the patch begins before the block
    windows = [
        (slice(reach - 1 - y, reach - 1 - y + down), slice(reach - 1 - x, reach - 1 - x + across)) for y, x in near
    ]
    rows = [index[:, v, h] + number * code.atoms for number, (v, h) in enumerate(windows)]
    return torch.cat([values[:, v, h] for v, h in windows], -1), torch.cat(rows, -1)
