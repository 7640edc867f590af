"""ResNet-18 and ResNet-34 for 32x32 images: small stem, no max-pooling, 11.17 and 21.28 million parameters.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, with the changes for CIFAR
that adversarial-training work has settled on: the first convolution is 3x3 with stride 1 and there is no
max-pooling, so the four stages run at 32, 16, 8 and 4 pixels with 64, 128, 256 and 512 channels. Shortcuts
that change the shape are a 1x1 convolution and batch normalisation (`shortcut.0`, `shortcut.1`).

ResNet-18 has 20 convolutions and 20 batch normalisations in the order of the forward pass, the shortcut after the
branch it is added to: conv1, bn1, layerK.i.{conv1, bn1, conv2, bn2, shortcut.0, shortcut.1}, linear.

`stem` is the side of the first kernel (7 in the work on the pixel-similarity regulariser, arXiv 2410.03952), `width`
the channels of the first stage (fewer make a network that a laptop can train).
"""

from __future__ import annotations

from torch import Tensor, nn

from netprobe.errors import NetprobeError


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, four stages of `depths` blocks, global average pooling, one linear layer."""

    def __init__(
        self, depths: tuple[int, int, int, int], num_classes: int, in_channels: int, stem: int, width: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, stem, padding=stem // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = _stage(width, width, depths[0], stride=1)
        self.layer2 = _stage(width, 2 * width, depths[1], stride=2)
        self.layer3 = _stage(2 * width, 4 * width, depths[2], stride=2)
        self.layer4 = _stage(4 * width, 8 * width, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(8 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(self.avgpool(out).flatten(1))


def _stage(in_channels: int, channels: int, depth: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(depth - 1)))


def resnet18(num_classes: int = 10, in_channels: int = 3, stem: int = 3, width: int = 64) -> ResNet:
    """ResNet-18 for images (N, in_channels, 32, 32); 11,173,962 parameters with 10 classes."""
    return _resnet((2, 2, 2, 2), num_classes, in_channels, stem, width)


def resnet34(num_classes: int = 10, in_channels: int = 3, stem: int = 3, width: int = 64) -> ResNet:
    """ResNet-34 for images (N, in_channels, 32, 32); 21,282,122 parameters with 10 classes."""
    return _resnet((3, 4, 6, 3), num_classes, in_channels, stem, width)


def _resnet(depths: tuple[int, int, int, int], num_classes: int, in_channels: int, stem: int, width: int) -> ResNet:
    if stem % 2 == 0:
        raise NetprobeError(f"stem={stem}: the side of the first kernel must be odd, such as 3 or 7, to keep the size")
    return ResNet(depths, num_classes, in_channels, stem, width)
