"""The MNIST network of Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks".

Two 5x5 convolutions with 32 and 64 channels, each followed by ReLU and 2x2 max-pooling, a linear layer of 1024 units
with ReLU, and the logits; no normalisation of any kind. Inputs are pixels in [0, 1], as they are. Layers as in
github.com/MadryLab/mnist_challenge (model.py), apart from the initial weights, which are torch's here: theirs are
truncated normals of standard deviation 0.1 with biases of 0.1.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def madry_cnn(num_classes: int = 10, in_channels: int = 1) -> nn.Sequential:
    """Two convolutions and two linear layers; 3,274,634 parameters. Images (N, in_channels, 28, 28) in [0, 1]."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, 32, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            linear1=nn.Linear(64 * 7 * 7, 1024),
            relu3=nn.ReLU(),
            linear2=nn.Linear(1024, num_classes),
        )
    )
