"""A network in the manner of LeCun et al. 1998: the classifier behind the polarizing front end of Bakiskan 2022.

Two 5x5 convolutions without padding, with 32 and 64 channels, each followed by 2x2 max-pooling and ReLU, a linear layer
of 100 units with ReLU, and the logits. That text calls it the small network of Madry; its public code, which this
follows, has a tenth of the hidden units and no padding (compare `madry_cnn`).
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def lenet(num_classes: int = 10, in_channels: int = 1) -> nn.Sequential:
    """Two convolutions and two linear layers; 155,606 parameters. Images (N, in_channels, 28, 28) in [0, 1]."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 32, 5),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 64, 5),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            linear1=nn.Linear(64 * 4 * 4, 100),
            relu3=nn.ReLU(),
            linear2=nn.Linear(100, num_classes),
        )
    )
