"""Small networks and data that show what is wrong: every axis of another length, in-place layers, large offsets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from netprobe.data import Data, load


def images(n: int = 20, shape: tuple[int, ...] = (3, 6, 5), classes: int = 4, seed: int = 0) -> Data:
    """`n` random images, every axis of another length."""
    generator = torch.Generator().manual_seed(seed)
    return load((torch.rand(n, *shape, generator=generator), torch.arange(n) % classes))


class ConvNet(nn.Module):
    """Two convolutions and a head; in-place ReLUs, which overwrite what the convolutions returned."""

    def __init__(self, channels: int = 3, classes: int = 4, width: int = 7, offset: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width - 1, 2)
        self.relu2 = nn.ReLU(inplace=True)
        self.head = nn.Linear(width - 1, classes)
        self.conv1.bias.data += offset

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.conv2(x))
        return self.head(x.mean((2, 3)))


class Refusing(nn.Module):
    """A network that, as many do, cannot take an empty batch."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        if not len(x):
            raise AssertionError("the model was shown an empty batch")
        return self.net(x)


def fragile(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, classes: int = 5) -> nn.Module:
    """A network for inputs of `shape`, in train mode, with all that must be left alone: statistics, dropout, frozen
    parts, gradients."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Flatten(),
            nn.Linear(torch.Size(shape).numel(), 16),
            nn.BatchNorm1d(16),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.Linear(16, classes),
        ).to(dtype)
    model[2].running_mean.fill_(0.1)
    model[1].bias.requires_grad_(False)
    model[5].weight.grad = torch.full_like(model[5].weight, 0.25)
    model[3].eval()
    return model


def snapshot(model: nn.Module) -> list:
    """All of a model that must be left as found, to compare with another snapshot."""
    return [
        [(name, module.training, len(module._forward_hooks)) for name, module in model.named_modules()],
        [(name, p.requires_grad, id(p), id(p.grad)) for name, p in model.named_parameters()],
        [p.grad.tolist() for p in model.parameters() if p.grad is not None],
        {name: value.tolist() for name, value in model.state_dict().items()},
    ]


def inputs(n: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """`n` inputs in [0, 1], some coordinates of them at the edges."""
    x = torch.rand((n, *shape), generator=torch.Generator().manual_seed(2), dtype=dtype)
    return ((x - 0.5) * 1.3 + 0.5).clamp(0, 1)


def seeded(build: Callable[..., nn.Module], *args, seed: int = 0, **kwargs) -> nn.Module:
    """`build(...)` with weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(*args, **kwargs)


def shifted(data: Data, size: float = 0.1, seed: int = 5) -> Tensor:
    """Inputs near those of `data`, in [0, 1]."""
    noise = torch.randn(data.inputs.shape, generator=torch.Generator().manual_seed(seed))
    return (data.inputs + size * noise).clamp(0, 1)


def lookup(inputs: Tensor) -> Callable[..., Tensor]:
    """The perturbation whose result for image i of the data set is `inputs[i]`."""

    def stored(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        return inputs[generator.images].to(x)

    return stored


def unchanged(model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
    """The perturbation that changes nothing."""
    return x
