"""The recipes of the papers."""

from __future__ import annotations

import math

import pytest

from netprobe.defenses import Natural
from netprobe.defenses.regularisers import Spectral
from netprobe.recipes import preset
from netprobe.training.schedules import rates

IMAGES = pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])


@IMAGES
def test_a_shallow_network_has_the_steps_of_its_work_whatever_the_images(shape):
    recipe = preset("paper", Natural(), "shallow", shape)
    assert (recipe.optimizer, recipe.epochs, recipe.batch_size) == ("adam", 1000, 1000)
    expected = {0: 1e-3, 29: 1e-3, 30: 5e-4, 89: 5e-4, 90: 2e-4, 120: 1e-4, 159: 1e-4, 160: 1e-5, 999: 1e-5}
    assert {epoch: rates(recipe, epoch, 1).lr for epoch in expected} == pytest.approx(expected)


@IMAGES
def test_with_a_power_law_its_rate_falls_exponentially(shape):
    recipe = preset("paper", Natural(), "shallow", shape, [Spectral()])
    for epoch in (0, 90, 91, 120, 999):
        assert rates(recipe, epoch, 1).lr == pytest.approx(1e-3 * math.exp(-max(epoch - 90, 0) / 30))


def test_the_power_law_leaves_other_networks_their_recipes():
    for shape in (1, 8, 8), (3, 32, 32):
        assert preset("paper", Natural(), "vgg16", shape, [Spectral()]) == preset("paper", Natural(), "vgg16", shape)
