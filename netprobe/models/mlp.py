"""A multilayer perceptron: the flattened image, then linear layers with ReLU between them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class MLP(nn.Sequential):
    """Layers flatten, linear1, relu1, linear2, relu2, ..., linear (the logits)."""

    def __init__(self, in_features: int, hidden: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        for index, width in enumerate(hidden, start=1):
            self.add_module(f"linear{index}", nn.Linear(in_features, width))
            self.add_module(f"relu{index}", nn.ReLU())
            in_features = width
        self.linear = nn.Linear(in_features, num_classes)


def mlp(num_classes: int = 10, in_features: int = 64, hidden: Sequence[int] = (256, 128)) -> MLP:
    """A perceptron on `in_features` values per sample: 64 for scikit-learn's digits, 784 for MNIST.

    50,826 parameters as it stands, 235,146 with `in_features=784`. Any shape (N, ...) of that many values.
    """
    return MLP(in_features, hidden, num_classes)
