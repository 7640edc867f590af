"""The CIFAR ResNets of the original paper: ResNet-20, 32, 44 and 56, 0.27 to 0.85 million parameters.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2: three stages of
n blocks at 32, 16 and 8 pixels with 16, 32 and 64 channels, 6n + 2 layers. Shortcuts are parameter-free
(option A): every second pixel, and zeros for the channels that the input does not have.

    ResNet-20   269,722      ResNet-32   464,154      ResNet-44   658,586      ResNet-56   853,018

Names are those of the public checkpoints of github.com/akamaster/pytorch_resnet_cifar10
(resnet20-12fca82f.th and the like): conv1, bn1, layerK.i.{conv1, bn1, conv2, bn2}, linear. Those were trained
on inputs normalised with the ImageNet statistics: load them with `normalize="imagenet"`.
"""

from __future__ import annotations

from torch import Tensor, nn


class PadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and `extra` channels of zeros, half of them before and half after."""

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.stride, self.extra = stride, extra

    def forward(self, x: Tensor) -> Tensor:
        before, after = self.extra // 2, self.extra - self.extra // 2
        return nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, extra={self.extra}"


class PaddedBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), the shortcut without parameters."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        changes = stride != 1 or in_channels != channels
        self.shortcut = PadShortcut(stride, channels - in_channels) if changes else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(out)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Stem, three stages of `blocks` blocks each, global average pooling, one linear layer."""

    def __init__(self, blocks: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, blocks, stride=1)
        self.layer2 = _stage(16, 32, blocks, stride=2)
        self.layer3 = _stage(32, 64, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(self.avgpool(out).flatten(1))


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = PaddedBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(PaddedBlock(channels, channels, 1) for _ in range(blocks - 1)))


def resnet20(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-20 for images (N, in_channels, 32, 32); 269,722 parameters with 10 classes."""
    return CifarResNet(3, num_classes, in_channels)


def resnet32(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-32 for images (N, in_channels, 32, 32); 464,154 parameters with 10 classes."""
    return CifarResNet(5, num_classes, in_channels)


def resnet44(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-44 for images (N, in_channels, 32, 32); 658,586 parameters with 10 classes."""
    return CifarResNet(7, num_classes, in_channels)


def resnet56(num_classes: int = 10, in_channels: int = 3) -> CifarResNet:
    """ResNet-56 for images (N, in_channels, 32, 32); 853,018 parameters with 10 classes."""
    return CifarResNet(9, num_classes, in_channels)
