"""Pruning: what the rules cut, and that what is cut leaves everything else as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from netprobe.defenses.krotov_hopfield import LocalLinear, prune
from netprobe.defenses.krotov_hopfield.pruning import mixture_cutoff
from netprobe.errors import NetprobeError


def bulk_and_noise(bulk: int, noise: int, seed: int = 0) -> np.ndarray:
    """ln s as in the published histogram: most units around 0.0008, a few around 0.002."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(math.log(8e-4), 0.15, bulk), rng.normal(math.log(2e-3), 0.03, noise)])


def weights_of(y: np.ndarray, features: int) -> torch.Tensor:
    """Weights (H, D) whose ln Var is y."""
    raw = torch.randn(len(y), features, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    raw = (raw - raw.mean(1, keepdim=True)) / raw.std(1, correction=0, keepdim=True)
    return raw * torch.from_numpy(np.exp(y / 2))[:, None]


def test_the_mixture_separates_the_noise():
    y = bulk_and_noise(1800, 200)
    cutoff = mixture_cutoff(y)
    # Midway between the means of ln s, each known to a few percent of 0.2.
    assert cutoff == pytest.approx((8e-4 * 2e-3) ** 0.5, rel=0.02)
    pruned = prune(weights_of(y, 3072))
    assert pruned.cutoff == pytest.approx(cutoff)
    assert (~pruned.kept)[1800:].all() and (~pruned.kept)[:1800].double().mean() < 0.01
    assert pruned.share == pytest.approx((y >= math.log(cutoff)).mean())


def test_one_gaussian_is_not_cut():
    # A needless second component is taken in 1 of 100 draws, by the test's own level.
    found = [mixture_cutoff(bulk_and_noise(800, 0, seed)) for seed in range(10)]
    assert sum(cutoff == math.exp(-3) for cutoff in found) >= 9


@pytest.mark.parametrize(
    ("features", "p", "radius"), [(784, 3.0, 1.0), (3072, 2.0, 1.0), (3072, 3.0, 2.0), (75, 2.5, 0.5)]
)
def test_the_rule_moves_with_the_size_of_weights(features, p, radius):
    """What is cut of weights of p-norm R does not depend on D, p or R: variances go as R^2 D^(-2/p)."""
    y = bulk_and_noise(450, 50)
    shift = math.log(radius**2 * features ** (-2 / p) / 3072 ** (-2 / 3))
    assert mixture_cutoff(y + shift, shift) == pytest.approx(mixture_cutoff(y) * math.exp(shift), rel=1e-3)
    kept = prune(weights_of(y + shift, features), p=p, radius=radius).kept
    assert kept.tolist() == prune(weights_of(y, 3072)).kept.tolist()


def test_units_at_their_random_start_are_cut_in_any_case():
    y = np.concatenate([bulk_and_noise(300, 0), np.zeros(5)])
    kept = prune(weights_of(y, 3072)).kept
    assert kept[:300].all() and not kept[300:].any()


@pytest.mark.parametrize("few", [1, 2, 3])
def test_few_units_in_the_window(few):
    kept = prune(weights_of(np.concatenate([np.linspace(-7.2, -7, few), np.zeros(2)]), 3072)).kept
    assert kept.tolist() == [True] * few + [False] * 2


def test_a_layer_without_any_unit_left_is_an_error():
    with pytest.raises(NetprobeError, match=r"all 5 units would be pruned.*learn for longer"):
        prune(torch.randn(5, 3072, generator=torch.Generator().manual_seed(0)))


def test_the_fixed_cutoff():
    y = np.log([0.0014, 0.0016, 0.0008])
    assert prune(weights_of(y, 3072), "fixed").kept.tolist() == [True, False, True]
    assert prune(weights_of(y, 100), "fixed", cutoff=0.001).kept.tolist() == [False, False, True]


def test_the_published_cutoff_is_refused_where_it_would_delete_the_layer():
    with pytest.raises(NetprobeError, match=r"784 inputs.*prune=mixture"):
        prune(torch.randn(5, 784), "fixed")


def test_an_infinite_cutoff_and_no_pruning_change_nothing():
    weight = torch.randn(6, 10)
    for pruned in (prune(weight, "fixed", cutoff=math.inf), prune(weight, "none")):
        assert pruned.kept.all() and pruned.share == 0 and pruned.cutoff == math.inf


def test_a_large_share_is_worth_a_warning(caplog):
    prune(weights_of(np.log([0.01, 0.01, 0.0001]), 3072), "fixed")
    assert "67 % of the units are pruned" in caplog.text


def test_pruned_units_are_silent_and_others_stay_as_they_are():
    layer, x = LocalLinear.like(torch.nn.Linear(7, 5), p=3.0), torch.rand(4, 7)
    before = layer(x)
    layer.put(layer.weight.clone(), torch.tensor([True, False, True, True, False]), 0.1)
    after = layer(x)
    assert not after[:, [1, 4]].any() and torch.equal(after[:, [0, 2, 3]], before[:, [0, 2, 3]])
    assert layer.weight[[1, 4]].all()  # the state dict still has what they had learnt


def test_an_unknown_rule_names_the_known_ones():
    with pytest.raises(NetprobeError, match="unknown rule of pruning 'auto'"):
        prune(torch.randn(3, 4), "auto")
