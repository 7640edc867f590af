"""The optimiser of a recipe: what it is given, and what it does about steps that float16 skips."""

import pytest
import torch
from torch import nn

from netprobe.recipes import Recipe
from netprobe.training.optimizer import make_optimizer, scaler

CPU = torch.device("cpu")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_a_skipped_step_leaves_no_trace(optimizer, precision):
    """Two losses are infinite in float16, so that their steps are skipped; float32 has no such steps."""
    recipe = Recipe(optimizer=optimizer, lr=0.1, weight_decay=0.0, precision=precision)
    network = nn.Linear(3, 2)
    nn.init.zeros_(network.weight)
    updates, scaled = make_optimizer(recipe, network), scaler(recipe, CPU)
    for factor in [torch.inf, 1.0, torch.inf, 1.0] if precision == "float16" else [1.0, 1.0]:
        updates.zero_grad()
        scaled.scale(factor * network(torch.ones(1, 3)).sum()).backward()
        scaled.step(updates)
        scaled.update()
    moved = 0.1 * (1 + 1.9) if optimizer == "sgd" else 0.1 * 2  # momentum 0.9; Adam normalises
    torch.testing.assert_close(network.weight.detach(), torch.full((2, 3), -moved))


def test_there_is_none_where_nothing_is_to_be_trained():
    network = nn.Linear(3, 2).requires_grad_(False)
    assert make_optimizer(Recipe(), network) is None
    network.bias.requires_grad_()
    (options,) = make_optimizer(Recipe(), network).param_groups
    assert [id(p) for p in options["params"]] == [id(network.bias)]
