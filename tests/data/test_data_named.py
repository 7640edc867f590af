"""Named data sets: digits, torchvision's formats in miniature, and what a missing or damaged one says."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.datasets import load_digits

from netprobe.data import NAMES, data_root, load
from netprobe.data.corrupted import CORRUPTED
from netprobe.errors import MissingData, NetprobeError


def test_importing_reads_no_heavy_library() -> None:
    heavy = ("torchvision", "sklearn", "scipy", "PIL", "pandas", "matplotlib")
    code = f"import sys, netprobe.data; print([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_digits_are_split_by_the_end_of_every_class() -> None:
    """A slow, obvious version: walk through the classes one by one."""
    bunch, test = load_digits(), set()
    for digit in range(10):
        members = [i for i, target in enumerate(bunch.target) if target == digit]
        test |= set(members[len(members) - len(members) // 5 :])
    for split, members in (("test", sorted(test)), ("train", sorted(set(range(1797)) - test))):
        data = load("digits", split)
        assert np.array_equal(data.inputs.numpy()[:, 0] * 16, bunch.images[members])
        assert data.labels.tolist() == bunch.target[members].tolist()


def test_digits_need_nothing(tmp_path: Path) -> None:
    data = load("digits", root=tmp_path, download=True)
    assert (len(data), len(load("digits", "train")), data.shape) == (355, 1442, (1, 8, 8))
    assert data.classes == tuple("0123456789")
    assert (float(data.inputs.min()), float(data.inputs.max())) == (0, 1)
    assert torch.bincount(data.labels).min() >= 34
    assert not list(tmp_path.iterdir())
    with pytest.raises(NetprobeError, match=r"unknown split of digits 'val'.*train, test|test, train"):
        load("digits", "val")


def test_the_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETPROBE_DATA", "/sets")
    assert data_root("~/mine") == tmp_path / "mine"
    assert data_root() == Path("/sets")
    monkeypatch.delenv("NETPROBE_DATA")
    assert data_root() == tmp_path / ".cache" / "netprobe"


MISSING = {
    "mnist": r"no t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte in ROOT/MNIST/raw",
    "fashion-mnist": r"no t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte in ROOT/FashionMNIST/raw",
    "cifar10": r"no test_batch, batches.meta in ROOT/cifar-10-batches-py",
    "cifar100": r"no test, meta in ROOT/cifar-100-python",
    "svhn": r"no test_32x32.mat in ROOT/SVHN",
    "imagenette": r"no val in ROOT/imagenette2",
}


def test_every_set_that_can_be_missing_is_tested() -> None:
    assert {*MISSING, "digits", "speech-commands", *CORRUPTED} == set(NAMES)


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_set_says_what_where_and_how(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingData) as caught:
        load(name, "test", root=tmp_path)
    message = str(caught.value)
    assert f"data set {name!r} is missing: {MISSING[name].replace('ROOT', str(tmp_path))}" in message
    assert f"load({name!r}, download=True)" in message
    assert "NETPROBE_DATA" in message
    assert not list(tmp_path.iterdir()), "looking must not write"


def test_a_similar_set_is_mentioned_but_never_taken(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> None:
    write_image(tmp_path / "cifar10-jpeg" / "test" / "cat" / "0.png")
    with pytest.raises(MissingData, match=r"What is there is 'cifar10-jpeg': another set"):
        load("cifar10", root=tmp_path)
    assert load("cifar10-jpeg", root=tmp_path).name == "cifar10-jpeg"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("cifar-10", "cifar10"), ("MNIST", "mnist"), ("pet", "pets"), ("fashionmnist", "fashion-mnist")],
)
def test_an_unknown_name_offers_the_closest(image_folder: Path, name: str, meant: str) -> None:
    (image_folder.parent / "MNIST" / "raw").mkdir(parents=True)  # where torchvision keeps mnist: not a set by itself
    with pytest.raises(MissingData, match=rf"unknown data set '{name}': did you mean '{meant}'\?"):
        load(name, root=image_folder.parent)


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of MNIST: 0, 0, 8 (bytes), number of dims, their sizes, big endian, values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture(params=["MNIST", "FashionMNIST"])
def mnist(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """The folder of raw files, twenty test images of 28x28 and their labels."""
    raw = tmp_path / request.param / "raw"
    images, labels = np.random.default_rng(0).integers(0, 256, (20, 28, 28)), np.arange(20) % 10
    write_idx(raw / "t10k-images-idx3-ubyte", images)
    write_idx(raw / "t10k-labels-idx1-ubyte", labels)
    write_idx(raw / "train-images-idx3-ubyte", images[:10])
    write_idx(raw / "train-labels-idx1-ubyte", labels[:10])
    return raw, images, labels


def name_of(raw: Path) -> str:
    return "mnist" if raw.parent.name == "MNIST" else "fashion-mnist"


def test_mnist_files_are_read(mnist: tuple[Path, np.ndarray, np.ndarray]) -> None:
    raw, images, labels = mnist
    data = load(name_of(raw), root=raw.parents[1])
    assert np.array_equal(data.stored.numpy(), images[:, None])
    assert data.labels.tolist() == labels.tolist()
    assert len(load(name_of(raw), "train", root=raw.parents[1])) == 10
    assert (data.name, data.classes[9]) in {("mnist", "9"), ("fashion-mnist", "Ankle boot")}


@pytest.mark.parametrize("kept", [0, 3, 10, 16, 5000])
def test_truncated_mnist_files_are_errors(mnist: tuple[Path, np.ndarray, np.ndarray], kept: int) -> None:
    raw, *_ = mnist
    file = raw / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(MissingData, match=rf"'{name_of(raw)}' in .*raw is damaged .*delete that folder and fetch"):
        load(name_of(raw), root=raw.parents[1])


def test_unequal_mnist_files_are_errors(mnist: tuple[Path, np.ndarray, np.ndarray]) -> None:
    raw, _, labels = mnist
    write_idx(raw / "t10k-labels-idx1-ubyte", labels[:19])
    with pytest.raises(MissingData, match="20 images but 19 labels"):
        load(name_of(raw), root=raw.parents[1])


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cifar10", ["cifar-10-batches-py/test_batch", "cifar-10-batches-py/batches.meta"]),
        ("cifar100", ["cifar-100-python/test", "cifar-100-python/meta"]),
        ("svhn", ["SVHN/test_32x32.mat"]),
    ],
)
def test_files_with_the_wrong_checksum_are_not_opened(name: str, files: list[str], tmp_path: Path) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(pickle.dumps({}))
    with pytest.raises(MissingData, match=rf"'{name}' in .* is damaged"):
        load(name, root=tmp_path)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision take miniature files for the real ones, whose checksums it knows."""
    for module in ("cifar", "svhn"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda *_: True)


@pytest.mark.parametrize(
    ("name", "folder", "test", "meta", "labels", "names"),
    [
        ("cifar10", "cifar-10-batches-py", "test_batch", "batches.meta", "labels", "label_names"),
        ("cifar100", "cifar-100-python", "test", "meta", "fine_labels", "fine_label_names"),
    ],
)
def test_cifar_files_are_read(
    unchecked: None, tmp_path: Path, name: str, folder: str, test: str, meta: str, labels: str, names: str
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), np.uint8)
    (tmp_path / folder).mkdir()
    (tmp_path / folder / test).write_bytes(pickle.dumps({"data": images.reshape(6, -1), labels: [0, 1, 2, 0, 1, 2]}))
    (tmp_path / folder / meta).write_bytes(pickle.dumps({names: ["ant", "bee", "cow"]}))
    data = load(name, root=tmp_path)
    assert np.array_equal(data.stored.numpy(), images)
    assert (data.name, data.classes) == (name, ("ant", "bee", "cow"))


def test_svhn_files_are_read(unchecked: None, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), np.uint8)
    (tmp_path / "SVHN").mkdir()
    labels = np.array([[1], [10], [9], [2], [10], [1]])  # 10 stands for the digit 0
    savemat(tmp_path / "SVHN" / "test_32x32.mat", {"X": images.transpose(2, 3, 1, 0), "y": labels})
    data = load("svhn", root=tmp_path)
    assert np.array_equal(data.stored.numpy(), images)
    assert data.labels.tolist() == [1, 0, 9, 2, 0, 1]
    assert data.classes == tuple("0123456789")


def test_imagenette_is_a_folder_with_names(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> None:
    for wnid, width in (("n02102040", 7), ("n01440764", 9)):
        for split in ("train", "val"):
            write_image(tmp_path / "imagenette2" / split / wnid / "0.JPEG", height=8, width=width)
    data = load("imagenette", "test", root=tmp_path, size=6)
    assert (data.name, data.split, data.classes) == ("imagenette", "val", ("tench", "English springer"))
    with pytest.raises(NetprobeError, match="Pass size="):
        load("imagenette", root=tmp_path)


def test_a_half_of_imagenette_is_not_another_set(tmp_path: Path) -> None:
    (tmp_path / "imagenette2" / "train").mkdir(parents=True)
    (tmp_path / "imagenette2-160").mkdir()
    with pytest.raises(MissingData, match="What is there is 'imagenette2-160': another set"):
        load("imagenette", root=tmp_path)


def test_downloading_is_left_to_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(url: str, *args: object, **kwargs: object) -> None:
        asked.append(url)
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", unreachable)
    with pytest.raises(MissingData, match="could not be fetched"):
        load("cifar10", root=tmp_path, download=True)
    assert asked
