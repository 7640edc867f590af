"""Batch norm whose running statistics are estimated anew."""

import pytest
import torch
from torch import nn

from netprobe import data
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn
from netprobe.training.reestimating import reestimate_batch_norm


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=96)


def test_statistics_are_those_of_the_batches_and_nothing_else_changes(digits):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(3, 2, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = reestimate_batch_norm(model.train(), digits, batch_size=32)
    seen = [model[0](part).detach().transpose(0, 1).flatten(1) for part in digits.inputs.split(32)]
    torch.testing.assert_close(made[1].running_mean, torch.stack([each.mean(1) for each in seen]).mean(0))
    torch.testing.assert_close(made[1].running_var, torch.stack([each.var(1) for each in seen]).mean(0))
    assert made[1].momentum == model[1].momentum and not made.training and model.training
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)
        assert "running" in name or "tracked" in name or torch.equal(made.state_dict()[name], value)


def test_deeper_layers_see_batches_normalised_by_themselves(digits):
    """As in training: with one batch of all images a pass in train mode and one of the copy in eval mode are alike."""
    model = digits_cnn().train()
    made = reestimate_batch_norm(model, digits, batch_size=len(digits))
    with torch.no_grad():
        # running variances are unbiased, those of a batch are not: 1 / (96 * 4 places) at the deepest layer
        torch.testing.assert_close(made(digits.inputs), model(digits.inputs), rtol=2e-2, atol=2e-2)


def test_what_cannot_be_estimated(digits):
    with pytest.raises(NetprobeError, match="no batch norm"):
        reestimate_batch_norm(nn.Flatten(), digits)
    with pytest.raises(NetprobeError, match="two images or more"):
        reestimate_batch_norm(digits_cnn(), digits, batch_size=1)
