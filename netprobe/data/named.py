"""The data sets known by name."""

from __future__ import annotations

from collections.abc import Callable

from netprobe.data.embedded import digits
from netprobe.data.fetched import Whole, imagenette
from netprobe.data.source import Source
from netprobe.data.speech_commands import speech_commands

MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
CIFAR10_FILES = {
    "train": (*(f"data_batch_{i}" for i in range(1, 6)), "batches.meta"),
    "test": ("test_batch", "batches.meta"),
}
CIFAR100_FILES = {"train": ("train", "meta"), "test": ("test", "meta")}
SVHN_FILES = {"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)}

WHOLE = (
    Whole("mnist", "MNIST", "MNIST/raw", MNIST_FILES, "NHW", 12, numbered=True),
    Whole("fashion-mnist", "FashionMNIST", "FashionMNIST/raw", MNIST_FILES, "NHW", 31),
    Whole("cifar10", "CIFAR10", "cifar-10-batches-py", CIFAR10_FILES, "NHWC", 170),
    Whole("cifar100", "CIFAR100", "cifar-100-python", CIFAR100_FILES, "NHWC", 169),
    Whole("svhn", "SVHN", "SVHN", SVHN_FILES, "NCHW", 246, numbered=True),
)

# Called as opener(root, split, **its own options).
NAMED: dict[str, Callable[..., Source]] = {
    "digits": digits,
    **{whole.name: whole for whole in WHOLE},
    "imagenette": imagenette,
    "speech-commands": speech_commands,
}
