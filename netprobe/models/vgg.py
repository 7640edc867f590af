"""VGG-16 with batch normalisation for 32x32 images: 14.7 million parameters.

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015,
configuration D, with the changes for CIFAR that adversarial-training work has settled on: each convolution
keeps its bias and is followed by batch normalisation and ReLU, and one linear layer replaces the three.

Names: `features.N`, convolutions at N = 0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40, each batch
normalisation one further; then `classifier`.
"""

from __future__ import annotations

from torch import Tensor, nn

#: Widths of the five stages; each ends in a 2x2 max-pooling.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """Five stages of convolution, batch normalisation and ReLU, from 32x32 down to 1x1; one linear layer."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for widths in STAGES:
            for width in widths:
                layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                in_channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def vgg16(num_classes: int = 10, in_channels: int = 3) -> VGG:
    """VGG-16 for images (N, in_channels, 32, 32); 14,728,266 parameters with 10 classes."""
    return VGG(num_classes, in_channels)
