"""Linear and convolutional layers with ReLU whose units settle on activations that predict each other."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, fold, pad, unfold

from netprobe.defenses.sca.unrolled import Pattern, Steps, activations, masked, pattern, settle
from netprobe.errors import NetprobeError


class SelfConsistent(nn.Module):
    """What a layer of n units on d inputs is besides its W and b: T steps down the energy of its activations,

        g(a) = psi(C~ a + c)        E(a; x) = 1/2 ||a - g(a)||^2 + lam 1/2 ||x - (V a + v)||^2
        s_0 = W x + b    a_t = phi(s_t)    s_t+1 = a_t - eta k_t u_t    out = dropout(phi(s_T))
        u_t = dE/da at a_t                 k_t = min(1, m / max |u_t|)

    phi and psi are ReLUs, C~ is C with a diagonal of zeros, and k_t, of every row by itself, has no gradient. With
    T = 0 it is the plain layer with its ReLU, bit for bit; C and V then have gradients of zero.

    lateral (n, n), lateral_bias (n,), feedback (d, n), feedback_bias (d,) are C, c, V, v, drawn as linear layers draw.
    steps, eta, lam, cap, dropout, checkpoint are public and read at every call, so that `layer.steps = 8` is another T.
    Activations and energies are in float32 at least, products in the precision of the weights, or of autocast.

    Cost: 4 n (n + d) multiplications a row and step, forward 2 n (n + d), or 3 n^2 where that is less (`unrolled`).

    Shah and Raj, arXiv 2308.03956. V and lam are of its public code.
    """

    units: int
    features: int

    def add_pattern(
        self,
        *,
        steps: int = 16,
        eta: float = 0.25,
        lam: float = 0.3,
        cap: float = 10.0,
        dropout: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        """C, c, V and v, drawn for `units` and `features`, beside the W and b that are there."""
        self.steps, self.eta, self.lam, self.cap = steps, eta, lam, cap
        self.dropout, self.checkpoint = dropout, checkpoint
        self._warming: float | None = None
        self._capped: Tensor | None = None
        across, back = (nn.Linear(self.units, outputs, **like(self)) for outputs in (self.units, self.features))
        self.lateral, self.lateral_bias = across.weight, across.bias
        self.feedback, self.feedback_bias = back.weight, back.bias

    def rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs (R, d) that the steps reconstruct, and s_0 (R, n), of all rows of the batch x."""
        raise NotImplementedError

    def joined(self, a: Tensor, x: Tensor) -> Tensor:
        """Activations (R, n) of the batch x in the shape that the layer puts out."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        inputs, s = self.rows(x)
        with self._precise(x) as dtype:
            a, capped = settle(*self._prepared(inputs, s, dtype), self._how())
        if self.training:
            self._capped = capped.detach()
        return dropout(self.joined(a.to(s.dtype), x), self.dropout, self.training)

    def trajectory(self, x: Tensor, steps: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """a_0, ..., a_T of the batch x as rows (R, n), and which rows were capped (R,); `steps` in place of T."""
        with self._precise(x) as dtype:
            yield from activations(*self._prepared(*self.rows(x), dtype), self._how(steps))

    def energies(self, x: Tensor, a: Tensor) -> dict[str, Tensor]:
        """Of rows of inputs x (R, d) and activations a (R, n), each (R,): "lateral" ||a - g(a)||^2 / 2,
        "reconstruction" lam ||x - (V a + v)||^2 / 2, and their sum "energy".
        """
        r = a - (a @ masked(self.lateral).t() + self.lateral_bias).relu()
        q = x - a @ self.feedback.t() - self.feedback_bias
        lateral, reconstruction = r.square().sum(1) / 2, self.lam * q.square().sum(1) / 2
        return {"energy": lateral + reconstruction, "lateral": lateral, "reconstruction": reconstruction}

    def warm(self, eta: float | None) -> None:
        """Take this step size in train mode; None: `eta`, as in eval mode."""
        self._warming = eta

    @property
    def capped(self) -> Tensor | None:
        """The share of updates that the cap shortened in the last forward pass in train mode."""
        return self._capped

    def _how(self, steps: int | None = None) -> Steps:
        eta = self._warming if self.training and self._warming is not None else self.eta
        return Steps(self.steps if steps is None else steps, eta, self.lam, self.cap, self.checkpoint)

    def _prepared(self, inputs: Tensor, s: Tensor, dtype: torch.dtype) -> tuple[Tensor, Pattern]:
        wide = torch.promote_types(s.dtype, torch.float32)
        across, back = (self.lateral.to(dtype), self.lateral_bias), (self.feedback.to(dtype), self.feedback_bias)
        return s.to(wide), pattern(inputs.to(wide), *across, *back, self._how())

    @contextlib.contextmanager
    def _precise(self, x: Tensor) -> Iterator[torch.dtype]:
        """Inside, no autocast; gives the precision of products, which autocast may have chosen."""
        device = x.device.type
        fast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if fast else self.lateral.dtype
        with torch.autocast(device, enabled=False):
            yield dtype

    def extra_repr(self) -> str:
        own = f"steps={self.steps}, eta={self.eta:g}, lam={self.lam:g}, cap={self.cap:g}, dropout={self.dropout:g}"
        return f"{super().extra_repr()}, {own}"


class SCALinear(SelfConsistent, nn.Linear):
    """`SelfConsistent` in place of a linear layer and its ReLU: (..., d) -> (..., n), every row by itself."""

    def __init__(self, layer: nn.Linear, **settings: Any) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, **like(layer))
        self.weight, self.bias = layer.weight, layer.bias
        self.units, self.features = layer.out_features, layer.in_features
        self.add_pattern(**settings)

    def rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.reshape(-1, self.features), nn.Linear.forward(self, x).reshape(-1, self.units)

    def joined(self, a: Tensor, x: Tensor) -> Tensor:
        return a.view(*x.shape[:-1], self.units)


class SCAConv2d(SelfConsistent, nn.Conv2d):
    """`SelfConsistent` in place of a convolution and its ReLU: the dense layer, with the same C and V, on every patch.

    A patch is `patch` x `patch` neighbouring outputs of all channels, n = channels patch^2 units, and its input the
    pixels that these see, d = C_in (k + (patch - 1) stride)^2 for a k x k kernel, zeros around the image included.
    Patches do not overlap and must tile the outputs. s_0 is what the convolution gives. With `patch` 1 the units of a
    patch are the channels at one place, and V reconstructs what the kernel sees there. The cap is of every patch by
    itself; the energy of an image is the sum over its patches, and inputs that several patches see count in each.

    Convolutions with groups are refused. Memory: the input of all patches, some (k / stride)^2 images.

    A choice of ours: the public code, not used in the paper, has patches that may overlap and averages their updates.
    """

    def __init__(self, layer: nn.Conv2d, *, patch: int = 1, **settings: Any) -> None:
        if layer.groups != 1 or (patch > 1 and max(layer.dilation) > 1):
            raise NetprobeError(
                f"{layer} cannot be self-consistent: its units share no input (groups=1 is needed; and dilation=1, "
                "where patch is above 1)"
            )
        shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        super().__init__(*shape, bias=layer.bias is not None, padding_mode=layer.padding_mode, **like(layer))
        self.weight, self.bias, self.patch = layer.weight, layer.bias, patch
        self.window = tuple(k + (patch - 1) * s for k, s in zip(layer.kernel_size, layer.stride, strict=True))
        self.units, self.features = layer.out_channels * patch**2, layer.in_channels * math.prod(self.window)
        self.add_pattern(**settings)

    def rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = nn.Conv2d.forward(self, x)
        if any(side % self.patch for side in out.shape[2:]):
            raise NetprobeError(f"patches of {self.patch} x {self.patch} do not tile outputs of {tuple(out.shape[2:])}")
        stride = tuple(self.patch * s for s in self.stride)
        mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
        seen = unfold(pad(x, self._around(), mode), self.window, self.dilation, 0, stride)
        parts = (seen, unfold(out, self.patch, stride=self.patch))
        return tuple(part.transpose(1, 2).reshape(-1, part.shape[1]) for part in parts)

    def joined(self, a: Tensor, x: Tensor) -> Tensor:
        (left, right, top, bottom), k, gap, step = self._around(), self.kernel_size, self.dilation, self.stride
        padded = (x.shape[2] + top + bottom, x.shape[3] + left + right)
        sides = tuple((padded[i] - gap[i] * (k[i] - 1) - 1) // step[i] + 1 for i in (0, 1))
        return fold(a.view(len(x), -1, self.units).transpose(1, 2), sides, self.patch, stride=self.patch)

    def _around(self) -> tuple[int, int, int, int]:
        """Pixels added left, right, above and below."""
        sides = []
        for axis in (1, 0):
            extent = self.dilation[axis] * (self.kernel_size[axis] - 1)
            named = {"same": (extent // 2, extent - extent // 2), "valid": (0, 0)}
            sides += named[self.padding] if isinstance(self.padding, str) else (self.padding[axis],) * 2
        return tuple(sides)


def like(layer: nn.Module) -> dict[str, Any]:
    """Where the weights of `layer` are, and their precision."""
    return {"device": layer.weight.device, "dtype": layer.weight.dtype}
