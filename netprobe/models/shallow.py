"""One hidden layer on images of unit L_p norm: the network in which local learning and smoothness are compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netprobe.errors import NetprobeError


class LpScale(nn.Module):
    """x / ||x||_p, one norm a sample: (N, ...) -> (N, ...), so that ||.||_p of every sample is 1. Zeros stay zeros.

    Inside the network, so that perturbations act on inputs in [0, 1]. An eps there is eps / ||x||_p behind it.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not p >= 1:
            raise NetprobeError(f"p={p} is no norm's: choose 1 or more, such as 3; none leaves samples as they are")
        self.p = float(p)

    def forward(self, x: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(x.flatten(1), self.p, dim=1).view(-1, *[1] * (x.ndim - 1))
        return x / norms.clamp_min(torch.finfo(x.dtype).tiny)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


class PowerReLU(nn.Module):
    """ReLU(h)^n, elementwise; its slope is n ReLU(h)^(n - 1). n >= 1.

    In float32 at least: a half-precision h is widened, and what comes out stays wide, since h^4.5 leaves the range of
    float16 above h = 12 and below 0.03. (float32: above 4e8, below 3e-9.)
    """

    def __init__(self, power: float) -> None:
        super().__init__()
        if not power >= 1:
            raise NetprobeError(f"power={power} makes ReLU(h)^power too steep at 0: choose 1 or more, such as 4.5")
        self.power = float(power)

    def forward(self, h: Tensor) -> Tensor:
        return h.to(torch.promote_types(h.dtype, torch.float32)).relu().pow(self.power)

    def extra_repr(self) -> str:
        return f"power={self.power:g}"


class Shallow(nn.Sequential):
    """Layers flatten, scale, hidden (h, without bias), relu (a = ReLU(h)^n), norm, linear (the logits).

    `scale` and `norm` are there if asked for.
    """

    def __init__(
        self, in_features: int, hidden: int, num_classes: int, p: float | None, power: float, batch_norm: bool
    ) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        if p:
            self.scale = LpScale(p)
        self.hidden = nn.Linear(in_features, hidden, bias=False)
        nn.init.normal_(self.hidden.weight, std=(2 / in_features) ** 0.5)
        self.relu = rectifier(power)
        if batch_norm:
            self.norm = nn.BatchNorm1d(hidden)
        self.linear = nn.Linear(hidden, num_classes)


def rectifier(power: float) -> nn.Module:
    """ReLU(h)^power; a plain ReLU for 1."""
    return nn.ReLU() if power == 1 else PowerReLU(power)


def shallow(
    num_classes: int = 10,
    in_features: int = 784,
    hidden: int = 2000,
    p: float | None = 3.0,
    power: float = 1.0,
    batch_norm: bool = False,
) -> Shallow:
    """One hidden layer without bias on samples of any shape (N, ...) that have `in_features` values.

        h = W x / ||x||_p      a = ReLU(h)^power      logits = U a + u       W ~ N(0, 2 / in_features)

    1,588,010 parameters as it stands (MNIST), 6,164,010 with in_features=3072 (CIFAR-10). p=none: x as it is.

    The five models of Holzhausen et al., arXiv 2405.00679, are this one: their hybrid with power=4.5 and W learnt
    locally (`fit("krotov-hopfield", ...)`), the others with power=1 and trained end to end, the one of the spectral
    regulariser with batch_norm=true, which comes between a and U.
    """
    if hidden < 1:
        raise NetprobeError(f"hidden={hidden} must be 1 unit or more")
    return Shallow(in_features, hidden, num_classes, p, power, batch_norm)
