"""A multilayer perceptron: the flattened image, then linear layers with ReLU between them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from netprobe.errors import NetprobeError


class MLP(nn.Sequential):
    """Layers flatten, linear1, relu1, linear2, relu2, ..., linear (the logits); dropout1, ... after each if any."""

    def __init__(self, in_features: int, hidden: Sequence[int], num_classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        for index, width in enumerate(hidden, start=1):
            self.add_module(f"linear{index}", nn.Linear(in_features, width))
            self.add_module(f"relu{index}", nn.ReLU())
            if dropout:
                self.add_module(f"dropout{index}", nn.Dropout(dropout))
            in_features = width
        self.linear = nn.Linear(in_features, num_classes)


def mlp(
    num_classes: int = 10, in_features: int = 64, hidden: Sequence[int] | int | str = (256, 128), dropout: float = 0.0
) -> MLP:
    """A perceptron on `in_features` values per sample: 64 for scikit-learn's digits, 784 for MNIST.

    50,826 parameters as it stands, 235,146 with `in_features=784`. Any shape (N, ...) of that many values. `hidden` are
    the widths, on the command line `--model mlp,hidden=256,128`; `dropout` the share of hidden units that are dropped.

    The networks of Shah and Raj, arXiv 2308.03956, for images, behind `normalize=(0.5, 0.5)`: hidden=2048 is what the
    self-consistent layer is put into, and hidden=2048,384,2048,2048 with dropout=0.2, on MNIST 7,399,818 parameters,
    the network of as many.
    """
    return MLP(in_features, widths(hidden), num_classes, dropout)


def widths(hidden: Sequence[int] | int | str) -> tuple[int, ...]:
    """Widths of hidden layers, which may be spelled "2048,384" or be a single one."""
    parts = hidden.split(",") if isinstance(hidden, str) else [hidden] if isinstance(hidden, int) else hidden
    try:
        found = tuple(int(part) for part in parts)
    except ValueError:
        found = (0,)
    if min(found, default=1) < 1:
        raise NetprobeError(f"hidden={hidden!r} must be widths of layers, 1 or more each, such as 2048 or 256,128")
    return found
