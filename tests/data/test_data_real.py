"""Facts of the real data sets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from netprobe.data import load
from netprobe.errors import MissingData

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def folder(data_root: Path, name: str) -> Path:
    """A part of the data root, or skip."""
    if not (data_root / name).is_dir():
        pytest.skip(f"needs the folder {name} in NETPROBE_DATA")
    return data_root / name


@pytest.mark.parametrize(("name", "place"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
@pytest.mark.parametrize(("split", "size"), [("train", 60_000), ("test", 10_000)])
def test_mnist_sizes(data_root: Path, name: str, place: str, split: str, size: int) -> None:
    folder(data_root, place)
    data = load(name, split, root=data_root)
    assert (len(data), data.shape, data.num_classes, data.stored.dtype) == (
        size,
        (1, 28, 28),
        10,
        torch.uint8,
    )


def test_mnist_is_the_original(data_root: Path) -> None:
    folder(data_root, "MNIST")
    data = load("mnist", "train", root=data_root)
    assert data.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # The mean and deviation that everybody normalises MNIST with, quoted to four digits.
    assert round(float(data.inputs.mean()), 4) == 0.1307
    assert round(float(data.inputs.std()), 4) == 0.3081


def test_a_truncated_copy_of_mnist_is_damaged(data_root: Path, tmp_path: Path) -> None:
    source = folder(data_root, "MNIST") / "raw"
    shutil.copytree(source, tmp_path / "MNIST" / "raw", copy_function=os.symlink)
    damaged = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    damaged.unlink()
    damaged.write_bytes((source / damaged.name).read_bytes()[:-1])
    with pytest.raises(MissingData, match=r"'mnist' in .* is damaged"):
        load("mnist", root=tmp_path)


def test_cifar10_jpeg_has_the_class_order_of_cifar10(data_root: Path) -> None:
    folder(data_root, "cifar10-jpeg")
    data = load("cifar10-jpeg", "test", root=data_root)
    assert (data.name, len(data), data.shape, data.stored.dtype) == (
        "cifar10-jpeg",
        10_000,
        (3, 32, 32),
        torch.uint8,
    )
    assert data.classes == CIFAR10
    assert torch.bincount(data.labels).tolist() == [1000] * 10
    # CIFAR-10's channel means, as everybody normalises with (of the training images: hence 0.01).
    torch.testing.assert_close(data.inputs.mean((0, 2, 3)), torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.01, rtol=0)
    few = load("cifar10-jpeg", "test", root=data_root, limit=100, seed=3)
    assert few.hash == data.take(100, seed=3).hash


def test_cifar10_jpeg_is_the_same_every_time(data_root: Path) -> None:
    folder(data_root, "cifar10-jpeg")
    first, second = (load("cifar10-jpeg", "test", root=data_root, limit=200) for _ in range(2))
    assert first.hash == second.hash
    assert torch.bincount(first.labels).tolist() == [20] * 10
    assert load("cifar10-jpeg", "test", root=data_root, limit=200, seed=1).hash != first.hash


def test_cifar10_is_never_its_jpeg_copy(data_root: Path) -> None:
    folder(data_root, "cifar10-jpeg")
    if (data_root / "cifar-10-batches-py").is_dir():
        assert load("cifar10", root=data_root).hash != load("cifar10-jpeg", root=data_root).hash
    else:
        with pytest.raises(MissingData, match="What is there is 'cifar10-jpeg': another set"):
            load("cifar10", root=data_root)


def test_spoken_digits(data_root: Path) -> None:
    folder(data_root, "spoken-digits")
    data = load("spoken-digits", "test", root=data_root, length=8000)
    assert (len(data), data.shape, data.sample_rate, data.stored.dtype) == (300, (8000,), 8000, torch.int16)
    assert data.classes == ("eight", "five", "four", "nine", "one", "seven", "six", "three", "two", "zero")
    assert torch.bincount(data.labels).tolist() == [30] * 10
    assert len(load("spoken-digits", "train", root=data_root, length=8000)) == 2700


def test_imagenet_samples_are_in_the_order_of_imagenet(data_root: Path) -> None:
    folder(data_root, "imagenet-samples")
    data = load("imagenet-samples", root=data_root, limit=50)
    assert (data.num_classes, data.shape, data.split) == (1000, (3, 160, 160), "all")
    assert (data.classes[0], data.classes[999]) == ("n01440764", "n15075141")  # tench, toilet tissue
