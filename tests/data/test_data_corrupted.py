"""CIFAR-10-C, CIFAR-100-C and ImageNet-C in miniature: which images, which labels, and what a missing one says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from netprobe.data import load
from netprobe.data.corrupted import CIFAR10
from netprobe.errors import MissingData, NetprobeError

CIFAR = {"cifar10-c": "CIFAR-10-C", "cifar100-c": "CIFAR-100-C"}


@pytest.fixture
def arrays(tmp_path: Path) -> np.ndarray:
    """Fog and snow of twelve images of 4x4 pixels at five severities, in both sets; the pixels of fog."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 4, 4, 3), np.uint8)
    for folder in CIFAR.values():
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "fog.npy", pixels)
        np.save(tmp_path / folder / "snow.npy", 255 - pixels)
        np.save(tmp_path / folder / "labels.npy", np.tile(np.arange(12, dtype=np.uint8) % 10, 5))
    return pixels


@pytest.mark.parametrize("name", CIFAR)
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_severity_is_its_fifth_of_the_file(name: str, severity: int, arrays: np.ndarray, tmp_path: Path) -> None:
    data = load(f"{name}:fog@{severity}", root=tmp_path)
    expected = arrays[12 * (severity - 1) : 12 * severity].transpose(0, 3, 1, 2)
    assert data.stored.dtype == torch.uint8 and np.array_equal(data.stored, expected)
    assert data.labels.tolist() == [*range(10), 0, 1]
    assert (data.name, data.split) == (f"{name}:fog@{severity}", "test")
    assert data.classes == (CIFAR10 if name == "cifar10-c" else tuple("0123456789"))


def test_corruptions_are_files_and_severities_other_data(arrays: np.ndarray, tmp_path: Path) -> None:
    asked = ("fog@2", "fog@3", "snow@2")
    assert len({load(f"cifar10-c:{which}", root=tmp_path).hash for which in asked}) == 3


def test_a_limit_keeps_the_same_images_at_every_severity(arrays: np.ndarray, tmp_path: Path) -> None:
    one, five = (load(f"cifar10-c:fog@{k}", "test", root=tmp_path, limit=7, seed=3) for k in (1, 5))
    assert one.labels.tolist() == five.labels.tolist() and len(one) == 7
    rows = [arrays[:12].transpose(0, 3, 1, 2).tolist().index(image.tolist()) for image in one.stored]
    assert np.array_equal(five.stored, arrays[48:].transpose(0, 3, 1, 2)[rows])


def test_classes_can_be_named(arrays: np.ndarray, tmp_path: Path) -> None:
    names = tuple("abcdefghij")
    assert load("cifar100-c:fog@1", root=tmp_path, classes=names).classes == names


@pytest.fixture
def folders(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> Path:
    """ImageNet-C/fog/{1,4}/{n01,n02}/*.png of 5x7 pixels, three of each class."""
    for severity in (1, 4):
        for k, wnid in enumerate(("n02", "n01")):
            for i in range(3):
                path = tmp_path / "ImageNet-C" / "fog" / str(severity) / wnid / f"ILSVRC_{i}.png"
                write_image(path, seed=100 * severity + 10 * k + i)
    return tmp_path


def test_imagenet_c_is_a_folder_of_classes(folders: Path) -> None:
    data = load("imagenet-c:fog@4", root=folders)
    assert (data.name, data.split, data.classes) == ("imagenet-c:fog@4", "test", ("n01", "n02"))
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1] and data.shape == (3, 5, 7)
    assert data.hash != load("imagenet-c:fog@1", root=folders).hash
    assert load("imagenet-c:fog@4", root=folders, size=4, limit=2).shape == (3, 4, 4)


ABSENT = {
    "cifar10-c": ("fog.npy, labels.npy in ROOT/CIFAR-10-C", "CIFAR-10-C.tar of https://zenodo.org/records/2535967"),
    "cifar100-c": ("fog.npy, labels.npy in ROOT/CIFAR-100-C", "CIFAR-100-C.tar of https://zenodo.org/records/3555552"),
    "imagenet-c": ("fog/3 in ROOT/ImageNet-C", "weather.tar of https://zenodo.org/records/2235448"),
}


@pytest.mark.parametrize("name", ABSENT)
def test_a_missing_set_says_what_where_and_how(name: str, tmp_path: Path) -> None:
    what, how = ABSENT[name]
    with pytest.raises(MissingData) as caught:
        load(f"{name}:fog@3", root=tmp_path)
    assert f"data set {name!r} is missing: no {what.replace('ROOT', str(tmp_path))}" in str(caught.value)
    assert how in str(caught.value) and "NETPROBE_DATA" in str(caught.value)


def test_a_missing_corruption_says_which_are_there(arrays: np.ndarray, folders: Path) -> None:
    with pytest.raises(MissingData, match=r"no frost.npy in .*CIFAR-10-C.*corruptions there: fog, snow"):
        load("cifar10-c:frost@3", root=folders)
    with pytest.raises(MissingData, match=r"no fog/3 in .*ImageNet-C.*corruptions there: fog"):
        load("imagenet-c:fog@3", root=folders)


@pytest.mark.parametrize("name", ABSENT)
def test_what_cannot_be_meant_is_explained(name: str, tmp_path: Path) -> None:
    for which in ("", ":", ":fog", ":@3", ":../fog@3", ":fog@"):
        with pytest.raises(NetprobeError, match=f"{name} needs a corruption and a severity, for instance {name}:fog@3"):
            load(f"{name}{which}", root=tmp_path)
    for severity in ("0", "7", "x"):
        with pytest.raises(NetprobeError, match=f"unknown severity of {name} '{severity}'.*valid choices"):
            load(f"{name}:fog@{severity}", root=tmp_path)
    with pytest.raises(NetprobeError, match=f"unknown split of {name} 'train'"):
        load(f"{name}:fog@3", "train", root=tmp_path)


def test_a_file_that_is_something_else_is_damaged(arrays: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "CIFAR-10-C"
    for wrong in (arrays[:59], arrays.astype(np.float32), arrays[:, 0], arrays[:55]):
        np.save(folder / "fog.npy", wrong)
        with pytest.raises(MissingData, match=r"fog.npy has .* not bytes \(5 N, H, W, 3\).*damaged, or not cifar10-c"):
            load("cifar10-c:fog@1", root=tmp_path)
    (folder / "fog.npy").write_bytes(b"no array")
    with pytest.raises(MissingData, match=r"fog.npy cannot be read .* damaged, fetch it again"):
        load("cifar10-c:fog@1", root=tmp_path)
