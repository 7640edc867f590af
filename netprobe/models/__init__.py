"""Readable networks, one file each, whose state-dict keys match the public checkpoints."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from netprobe.models.cnn import digits_cnn, mnist_cnn
from netprobe.models.lenet import lenet
from netprobe.models.madry import madry_cnn
from netprobe.models.mfcc import words_mlp
from netprobe.models.mlp import mlp
from netprobe.models.normalize import STATISTICS, Normalize, Normalized
from netprobe.models.resnet import resnet18, resnet34
from netprobe.models.resnet_cifar import resnet20, resnet32, resnet44, resnet56
from netprobe.models.resnet_thin import resnet32_thin
from netprobe.models.shallow import shallow
from netprobe.models.vgg import vgg16

#: The architectures that `load` knows by name; each takes `num_classes` and more by keyword.
ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    architecture.__name__: architecture
    for architecture in (
        digits_cnn,
        mnist_cnn,
        lenet,
        madry_cnn,
        mlp,
        shallow,
        words_mlp,
        resnet18,
        resnet34,
        vgg16,
        resnet20,
        resnet32,
        resnet44,
        resnet56,
        resnet32_thin,
    )
}

__all__ = ["ARCHITECTURES", "STATISTICS", "Normalize", "Normalized", *ARCHITECTURES]
