"""The thin pre-activation ResNet-32 of the Madry challenge: 0.46 million parameters.

Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards deep learning models resistant to adversarial attacks",
ICLR 2018 (the narrow network of its CIFAR-10 challenge): three stages of five pre-activation units (He et al.,
"Identity mappings in deep residual networks", ECCV 2016) at 32, 16 and 8 pixels with 16, 32 and 64 channels,
leaky ReLU of slope 0.1, and shortcuts without parameters: average pooling, and zeros for the new channels.

Names are those of the checkpoints released with github.com/canbakiskan/neuro-inspired-defense: conv1,
blockK.i.{bn1, conv1, bn2, conv2}, bn1, linear. That code normalises inside the model with the CIFAR-10
statistics but stores none: load its checkpoints with `normalize="cifar10"`.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from netprobe.errors import unknown

SLOPE = 0.1
WIRINGS = ("released", "tensorflow")


class PoolShortcut(nn.Module):
    """Average pooling by `stride`, and `extra` channels of zeros, half of them before and half after."""

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(stride)
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        before, after = self.extra // 2, self.extra - self.extra // 2
        return nn.functional.pad(self.pool(x), (0, 0, 0, 0, before, after))

    def extra_repr(self) -> str:
        return f"extra={self.extra}"


class PreActivationUnit(nn.Module):
    """conv2(act2(bn2(conv1(act1(bn1(x)))))) + shortcut(x)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.act1 = nn.LeakyReLU(SLOPE)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act2 = nn.LeakyReLU(SLOPE)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        changes = stride != 1 or in_channels != channels
        self.shortcut = PoolShortcut(stride, channels - in_channels) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(self.act1(self.bn1(x))) + self.shortcut(x)

    def branch(self, activated: Tensor) -> Tensor:
        """The two convolutions, from the tensor that the first one reads."""
        return self.conv2(self.act2(self.bn2(self.conv1(activated))))


class FirstUnit(PreActivationUnit):
    """The unit after the stem, whose shortcut carries the activated input ("activate before residual").

    `wiring="tensorflow"` is the original: both paths read act1(bn1(x)). `wiring="released"` is what the released
    PyTorch code does, and what its checkpoints need: the convolutions read x itself.
    """

    def __init__(self, channels: int, wiring: str) -> None:
        super().__init__(channels, channels, stride=1)
        self.wiring = wiring

    def forward(self, x: Tensor) -> Tensor:
        activated = self.act1(self.bn1(x))
        return self.branch(activated if self.wiring == "tensorflow" else x) + activated


class ThinResNet(nn.Module):
    """Stem, three stages of `units` units each, batch normalisation, average pooling, one linear layer."""

    def __init__(self, units: int, num_classes: int, in_channels: int, wiring: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = _stage(FirstUnit(16, wiring), 16, units)
        self.block2 = _stage(PreActivationUnit(16, 32, stride=2), 32, units)
        self.block3 = _stage(PreActivationUnit(32, 64, stride=2), 64, units)
        self.bn1 = nn.BatchNorm2d(64)
        self.act = nn.LeakyReLU(SLOPE)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # as the TensorFlow original starts them
                nn.init.normal_(module.weight, std=math.sqrt(2 / (9 * module.out_channels)))

    def forward(self, x: Tensor) -> Tensor:
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.linear(self.avgpool(self.act(self.bn1(out))).flatten(1))


def _stage(first: PreActivationUnit, channels: int, units: int) -> nn.Sequential:
    return nn.Sequential(first, *(PreActivationUnit(channels, channels, 1) for _ in range(units - 1)))


def resnet32_thin(num_classes: int = 10, in_channels: int = 3, wiring: str = "released") -> ThinResNet:
    """The thin ResNet-32 for images (N, in_channels, 32, 32); 464,154 parameters with 10 classes.

    `wiring` of the first unit: "released" for the public PyTorch checkpoints, "tensorflow" for the original
    (see `FirstUnit`); a network trained with one loses accuracy under the other, without any key missing.
    """
    if wiring not in WIRINGS:
        raise unknown("wiring", wiring, WIRINGS)
    return ThinResNet(5, num_classes, in_channels, wiring)
