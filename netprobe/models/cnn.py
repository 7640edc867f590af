"""Small convolutional networks for grey digits, with enough layers for a depth profile.

Not from a paper: 3x3 convolution, batch normalisation, ReLU, repeated, with 2x2 max-pooling between the
resolutions, global average pooling and one linear layer. Inputs are pixels in [0, 1], not normalised.

    digits_cnn    8x8 (scikit-learn's digits)      5 convolutions     35,674 parameters
    mnist_cnn     28x28 (MNIST, Fashion-MNIST)     6 convolutions    288,170 parameters
"""

from __future__ import annotations

from torch import nn

POOL = "pool"


class ConvNet(nn.Sequential):
    """Layers conv1, bn1, relu1, conv2, ... for the widths of `plan`; `POOL` in it halves the resolution."""

    def __init__(self, plan: tuple[int | str, ...], num_classes: int, in_channels: int) -> None:
        super().__init__()
        index, channels = 0, in_channels
        for width in plan:
            if width == POOL:
                self.add_module(f"pool{index}", nn.MaxPool2d(2))
                continue
            index += 1
            self.add_module(f"conv{index}", nn.Conv2d(channels, width, 3, padding=1, bias=False))
            self.add_module(f"bn{index}", nn.BatchNorm2d(width))
            self.add_module(f"relu{index}", nn.ReLU())
            channels = width
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(channels, num_classes)


def digits_cnn(num_classes: int = 10, in_channels: int = 1) -> ConvNet:
    """Five convolutions at 8x8, 4x4 and 2x2; 35,674 parameters. Images (N, in_channels, 8, 8) in [0, 1]."""
    return ConvNet((16, 16, POOL, 32, 32, POOL, 64), num_classes, in_channels)


def mnist_cnn(num_classes: int = 10, in_channels: int = 1) -> ConvNet:
    """Six convolutions at 28x28, 14x14 and 7x7; 288,170 parameters. Images (N, in_channels, 28, 28) in [0, 1]."""
    return ConvNet((32, 32, POOL, 64, 64, POOL, 128, 128), num_classes, in_channels)
