"""What each noise does to an image, by its formula and its distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from netprobe.errors import NetprobeError
from netprobe.perturb import GaussianNoise, ImageGenerator, SaltAndPepper, UniformNoise
from netprobe.perturb.randomness import normal

MIDDLE = torch.full((500, 3, 8, 5), 0.5)


def noisy(noise, x):
    return noise(None, x, None, generator=ImageGenerator(1, range(len(x))))


def test_gaussian_noise_is_its_formula():
    x = torch.rand(4, 3, 5, 2)
    expected = x + 0.3 * normal(x, ImageGenerator(1, range(4)))
    assert torch.equal(noisy(GaussianNoise(0.3), x), expected.clamp(0, 1))
    unclipped = noisy(GaussianNoise(0.3, clip=False), x)
    assert torch.equal(unclipped, expected) and unclipped.min() < 0


def test_clipping_makes_gaussian_noise_smaller_at_the_edges():
    """At x = 0 the noise is max(n, 0): half the power. Mean of 60,000 squares: 1 % is three standard deviations."""
    power = noisy(GaussianNoise(0.1), torch.zeros_like(MIDDLE)).square().mean()
    assert power.item() == pytest.approx(0.5 * 0.1**2, rel=0.03)


def test_only_clipped_noise_must_fit_the_box():
    assert GaussianNoise(8.2, clip=False).std == 8.2
    with pytest.raises(NetprobeError, match=r"8\.2/255"):
        GaussianNoise(8.2)


def test_uniform_noise_is_uniform():
    delta = (noisy(UniformNoise(0.2), MIDDLE) - MIDDLE).flatten().double().numpy()
    assert stats.kstest(delta, stats.uniform(-0.2, 0.4).cdf).pvalue > 0.001


@pytest.mark.parametrize("amount", [0.1, 1.0])
def test_salt_and_pepper_come_in_equal_shares(amount):
    """Four standard deviations of a share of 60,000 coordinates."""
    changed = noisy(SaltAndPepper(amount, low=-1.0, high=0.75), MIDDLE)
    for value in (-1.0, 0.75):
        share = (changed == value).double().mean().item()
        assert share == pytest.approx(amount / 2, abs=4 * (amount / 2 / MIDDLE.numel()) ** 0.5)
    assert set(changed.unique().tolist()) <= {-1.0, 0.5, 0.75}
    assert ((changed != 0.5).double().mean() == 1) == (amount == 1)
