"""The public checkpoints load, compute what their state dicts say, and are as accurate as published."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from netprobe.checkpoints import load
from netprobe.models import STATISTICS

#: Accuracy on all 10,000 test images of cifar10-jpeg, per cent, as the data set's own description measured it.
PUBLIC = {
    "resnet20-12fca82f.th": ("resnet20", "imagenet", 81.03),
    "resnet56-4bfd9763.th": ("resnet56", "imagenet", 83.20),
    "resnet_sgd_cyc_0.0500_NT_ep_100.pt": ("resnet32_thin", "cifar10", 64.34),
    "resnet_sgd_cyc_0.0500_PGD_eps_8_Ns_10_ss_1_Nr_1_ep_100.pt": ("resnet32_thin", "cifar10", 78.11),
}


@pytest.fixture(scope="session")
def public_checkpoints() -> Path:
    """The folder of public checkpoints; the test skips, saying how to get them, when there is none."""
    data = os.environ.get("NETPROBE_DATA", "")
    folder = Path(os.environ.get("NETPROBE_CHECKPOINTS") or Path(data) / "checkpoints")
    if not all((folder / name).is_file() for name in PUBLIC):
        pytest.skip(
            f"needs {', '.join(PUBLIC)} (github.com/akamaster/pytorch_resnet_cifar10 and "
            "canbakiskan/neuro-inspired-defense): set NETPROBE_CHECKPOINTS to their folder, "
            "or put them in $NETPROBE_DATA/checkpoints"
        )
    return folder


@pytest.fixture(scope="session")
def cifar_images(data_root: Path) -> Callable[[int], tuple[Tensor, Tensor]]:
    """The first n test images of every class of cifar10-jpeg, in [0, 1], and their labels."""
    from torchvision.transforms.functional import pil_to_tensor

    folder = data_root / "cifar10-jpeg" / "test"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}: one folder of images for each class of CIFAR-10")

    def read(per_class: int) -> tuple[Tensor, Tensor]:
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        files = [file for path in classes for file in sorted(path.glob("*.jpg"))[:per_class]]
        labels = [index for index, path in enumerate(classes) for _ in sorted(path.glob("*.jpg"))[:per_class]]
        return torch.stack([pil_to_tensor(Image.open(file)) for file in files]) / 255, torch.tensor(labels)

    return read


THIN = "resnet_sgd_cyc_0.0500_NT_ep_100.pt"


def accuracy(model, images: Tensor, labels: Tensor) -> float:
    """Per cent."""
    with torch.no_grad():
        hits = [(model(x).argmax(1) == y).sum() for x, y in zip(images.split(250), labels.split(250), strict=True)]
    return 100 * float(sum(hits)) / len(labels)


def public(folder, file: str, **arguments):
    architecture, normalize, _ = PUBLIC[file]
    return load(architecture, folder / file, normalize=normalize, **arguments)


@pytest.mark.parametrize("file", PUBLIC)
def test_sample_accuracy_agrees_with_the_published_one(public_checkpoints, cifar_images, file):
    # Three standard errors of a share of 200 images. Without the right normalisation it is 20 to 40 points less.
    share = PUBLIC[file][2] / 100
    images, labels = cifar_images(20)
    measured = accuracy(public(public_checkpoints, file), images, labels)
    assert abs(measured - 100 * share) < 300 * math.sqrt(share * (1 - share) / len(labels))


@pytest.mark.slow
@pytest.mark.parametrize("file", PUBLIC)
def test_accuracy_on_all_images_is_the_published_one(public_checkpoints, cifar_images, file):
    images, labels = cifar_images(1000)
    assert len(labels) == 10_000
    measured = accuracy(public(public_checkpoints, file), images, labels)
    print(f"{file}: {measured:.2f} % (published {PUBLIC[file][2]:.2f} %)")
    assert measured == pytest.approx(PUBLIC[file][2], abs=0.2)


def normalized(x: Tensor, name: str) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in STATISTICS[name])
    return (x - mean) / std


def batch_norm(x: Tensor, state: dict, name: str) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{k}"].view(1, -1, 1, 1) for k in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def convolved(x: Tensor, state: dict, name: str, stride: int = 1) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], stride=stride, padding=1)


def zeros_around(x: Tensor, channels: int) -> Tensor:
    half = torch.zeros(len(x), (channels - x.shape[1]) // 2, *x.shape[2:])
    return torch.cat([half, x, half], dim=1)


def option_a(state: dict, x: Tensor, blocks: int) -> Tensor:
    """He et al. 2016, section 4.2, written down once more from the state dict alone."""
    x = F.relu(batch_norm(convolved(x, state, "conv1"), state, "bn1"))
    for stage, channels in ((1, 16), (2, 32), (3, 64)):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = F.relu(batch_norm(convolved(x, state, f"{name}.conv1", stride), state, f"{name}.bn1"))
            out = batch_norm(convolved(out, state, f"{name}.conv2"), state, f"{name}.bn2")
            x = F.relu(out + zeros_around(x[:, :, ::stride, ::stride], channels))
    return x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


def thin(state: dict, x: Tensor, tensorflow: bool) -> Tensor:
    """The pre-activation network of Madry's challenge, and how the released code wires its first unit."""

    def activated(x: Tensor, name: str) -> Tensor:
        x = batch_norm(x, state, name)
        return torch.where(x > 0, x, 0.1 * x)

    x = convolved(x, state, "conv1")
    for stage, channels in ((1, 16), (2, 32), (3, 64)):
        for unit in range(5):
            name, stride = f"block{stage}.{unit}", 2 if stage > 1 and unit == 0 else 1
            out = activated(x, f"{name}.bn1")
            shortcut = x
            if (stage, unit) == (1, 0):
                shortcut = out
                out = out if tensorflow else x
            out = convolved(out, state, f"{name}.conv1", stride)
            out = convolved(activated(out, f"{name}.bn2"), state, f"{name}.conv2")
            x = out + zeros_around(F.avg_pool2d(shortcut, stride), channels)
    return activated(x, "bn1").mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


# Tolerance of the two below: float32 logits of about 20 through 20 to 56 layers, summed in another order.


@pytest.mark.parametrize(("file", "blocks"), [("resnet20-12fca82f.th", 3), ("resnet56-4bfd9763.th", 9)])
def test_option_a_resnets_compute_what_the_paper_says(public_checkpoints, file, blocks):
    raw = torch.load(public_checkpoints / file, weights_only=True, map_location="cpu")["state_dict"]
    state = {name.removeprefix("module."): tensor for name, tensor in raw.items()}
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        ours = public(public_checkpoints, file)(x)
        torch.testing.assert_close(ours, option_a(state, normalized(x, "imagenet"), blocks), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wiring", ["released", "tensorflow"])
def test_thin_resnet_computes_either_wiring(public_checkpoints, wiring):
    state = torch.load(public_checkpoints / THIN, weights_only=True, map_location="cpu")
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        ours = public(public_checkpoints, THIN, wiring=wiring)(x)
        reference = thin(state, normalized(x, "cifar10"), wiring == "tensorflow")
    torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)


def test_old_checkpoints_without_batch_counters_are_complete(public_checkpoints):
    raw = torch.load(public_checkpoints / "resnet20-12fca82f.th", weights_only=True, map_location="cpu")
    assert not any("num_batches_tracked" in name for name in raw["state_dict"])
    source = public(public_checkpoints, "resnet20-12fca82f.th").netprobe_source
    assert source["skipped"] == [] and source["prefix"] == "module." and source["key"] == "state_dict"
    # The authors named the file by the beginning of its SHA-256.
    assert source["checkpoint_sha256"].startswith("12fca82f")


def test_a_strangers_file_loads_a_public_checkpoint(public_checkpoints, tmp_path):
    (tmp_path / "their_resnet.py").write_text(
        """
import torch.nn as nn
import torch.nn.functional as F

class Shortcut(nn.Module):
    def forward(self, x):
        planes = x.shape[1]
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 2, planes // 2))

class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.shortcut = Shortcut() if stride == 2 else nn.Sequential()

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stage = lambda cin, cout, s: nn.Sequential(Block(cin, cout, s), Block(cout, cout, 1), Block(cout, cout, 1))
        self.layer1, self.layer2, self.layer3 = stage(16, 16, 1), stage(16, 32, 2), stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(F.avg_pool2d(x, x.size(3)).flatten(1))

def resnet20():
    return nn.DataParallel(Net())
"""
    )
    file = public_checkpoints / "resnet20-12fca82f.th"
    theirs = load(f"{tmp_path}/their_resnet.py:resnet20", file, normalize="imagenet")
    x = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(x), public(public_checkpoints, file.name)(x), rtol=1e-4, atol=1e-4)
