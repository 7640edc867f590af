"""Critical distances against linear networks, whose errors are where a formula says, and walks one image at a time."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from netprobe import data
from netprobe.errors import NetprobeError
from netprobe.geometry import compare_distances, critical_distances
from netprobe.geometry.doubting import distance_doubts
from netprobe.geometry.survival import median_distance
from netprobe.geometry.walks import WALKS, CoarsePGD, walk
from netprobe.models.shallow import shallow
from netprobe.perturb import FGSM, PGD, GaussianNoise, ImageGenerator
from netprobe.perturb.randomness import stream_seed
from netprobe.reporting.geometry_rows import distance_trust as trust

QUIET = {"progress": False}
GRID = np.geomspace(1e-3, 1, 20)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=40)


@pytest.fixture(scope="module")
def network(digits):
    """One that gets most of these images right, by ridge regression."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double().eval()
    every = data.load("digits", "train", limit=400)
    x = torch.cat([every.inputs.double().flatten(1), torch.ones(400, 1, dtype=torch.float64)], 1)
    targets = nn.functional.one_hot(every.labels, 10).double()
    weight = torch.linalg.solve(x.T @ x + torch.eye(65, dtype=torch.float64), x.T @ targets)
    with torch.no_grad():
        model[1].weight.copy_(10 * weight[:64].T)
        model[1].bias.copy_(10 * weight[64])
    return model


@pytest.fixture(scope="module")
def found(network, digits):
    return critical_distances(network, digits, eps=GRID, **QUIET)


def slow_walk(model, digits, name, grid, seed=0):
    """(eps, ||x' - x||_2, fooled) of each image, alone, up the grid."""
    rows = []
    for i, (x, y) in enumerate(zip(digits.inputs.double(), digits.labels, strict=True)):
        x, y = x[None], y[None]
        if model(x).argmax() != y:
            rows.append((np.nan, np.nan, -1))
            continue
        for eps in grid:
            generator = ImageGenerator(stream_seed(seed, name), [i])
            moved = walk(name).at(eps)(model, x, y, generator=generator)
            fooled = int(model(moved).argmax() != y)
            if fooled:
                break
        rows.append((eps, float((moved - x).norm()), fooled))
    return np.array(rows).T


@pytest.mark.parametrize("name", ["random", "fgsm", "coarse-pgd"])
def test_walks_are_those_of_single_images(name, network, digits):
    grid = np.geomspace(1e-2, 0.5, 8)
    found = critical_distances(network, digits, [name], eps=grid, batch_size=7, **QUIET).sel(walk=name)
    eps, length, fooled = slow_walk(network, digits, name, grid)
    np.testing.assert_array_equal(found["censored"], np.where(fooled < 0, -1, fooled == 0))
    np.testing.assert_allclose(found["critical_eps"], eps)
    np.testing.assert_allclose(found["distance"], length, rtol=1e-9)
    right = fooled >= 0
    stands = [(right & ~((fooled == 1) & (eps <= e))).sum() for e in grid]
    np.testing.assert_allclose(found["relative_accuracy"], np.array(stands) / right.sum())
    np.testing.assert_allclose(found["accuracy"], np.array(stands) / 40)
    assert float(found["clean_accuracy"]) == right.mean()


def test_fgsm_of_a_linear_network_with_two_classes():
    """The margin falls by eps ||w_1 - w_0||_1: the first eps of the grid above margin / that is critical."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double().eval()
    x = 0.3 + 0.4 * torch.rand(30, 1, 4, 4)
    with torch.no_grad():
        model[1].bias.copy_(-0.5 * model[1].weight.sum(1))  # the boundary is amid the images
        labels = model(x.double()).argmax(1)
        margins = (model(x.double()) @ torch.tensor([1.0, -1.0], dtype=torch.float64)).abs()
        slope = (model[1].weight[0] - model[1].weight[1]).abs().sum()
    images, grid = data.load((x, labels)), np.geomspace(1e-3, 0.25, 60)
    found = critical_distances(model, images, ["fgsm"], eps=grid, **QUIET)
    exact = (margins / slope).numpy()
    within = (exact > 0.001) & (exact < 0.24)
    critical = found["critical_eps"].sel(walk="fgsm").values[within]
    ratio = float(found["grid_ratio"][0])
    assert within.sum() > 10
    assert (critical >= exact[within]).all()
    assert (critical <= exact[within] * ratio * (1 + 1e-9)).all()
    np.testing.assert_allclose(found["distance"].sel(walk="fgsm").values[within], 4 * critical, rtol=1e-5)


def test_laws(found):
    """Everything stands at eps -> 0; L2 <= eps sqrt(D) in Linf balls; PGD finds what FGSM finds; nothing recovers."""
    right = found["censored"] >= 0
    assert (found["relative_accuracy"].isel(step=0) == 1).all()
    assert (found["relative_accuracy"].diff("step") <= 0).all()
    for name in ("fgsm", "pgd"):
        here = found.sel(walk=name)
        known = right.sel(walk=name).values
        assert (here["distance"].values[known] <= here["critical_eps"].values[known] * 8 * (1 + 1e-6)).all()
        assert (here["distance_linf"].values[known] <= here["critical_eps"].values[known] * (1 + 1e-6)).all()
    assert float(found["median"].sel(walk="pgd")) <= 1.02 * float(found["median"].sel(walk="fgsm"))
    for name in ("median", "median_eps"):
        low, high = found[f"{name}_interval"].values.T
        assert (low <= found[name]).all()
        assert (found[name] <= high).all()
    assert np.isnan(found["distance"].values[~right.values]).all()


def test_batches_make_no_difference(network, digits, found):
    again = critical_distances(network, digits, batch_size=16, eps=GRID, **QUIET)
    for name in ("critical_eps", "distance", "censored"):
        np.testing.assert_allclose(again[name], found[name], rtol=1e-9)


def test_what_is_never_fooled_is_kept(network, digits):
    found = critical_distances(network, digits, ["random"], eps=[1e-6, 2e-6], **QUIET)
    assert set(np.unique(found["censored"])) == {-1, 1}
    assert np.isinf(found["median"]).all()
    assert np.isfinite(found["distance"].values[found["censored"].values == 1]).all()
    assert (found["relative_accuracy"] == 1).all()


def test_nothing_right_is_no_distance(network, digits):
    wrong = data.load((digits.inputs, (network(digits.inputs.double()).argmax(1) + 1) % 10))
    found = critical_distances(network, wrong, ["fgsm"], eps=[0.1], **QUIET)
    assert np.isnan(found["median"]).all()
    assert np.isnan(found["relative_accuracy"]).all()
    assert float(found["clean_accuracy"]) == 0


def test_both_units_of_a_network_that_rescales():
    images = data.load("digits", limit=10)
    torch.manual_seed(1)
    found = critical_distances(shallow(in_features=64, hidden=20).eval(), images, ["fgsm"], eps=[0.1, 0.9], **QUIET)
    norms = np.linalg.norm(images.inputs.double().flatten(1), 3, axis=1)
    np.testing.assert_allclose(found["input_scale"], norms)
    np.testing.assert_allclose(found["distance_scaled"], found["distance"] / norms)
    np.testing.assert_allclose(found["critical_eps_scaled"], found["critical_eps"] / norms)


def test_kaplan_meier_without_censoring_is_the_median():
    values = np.random.default_rng(0).exponential(size=101)
    median, low, high = median_distance(values, np.zeros(101, bool))
    assert median == np.median(values)
    ordered = np.sort(values)
    assert ordered[38] < low < median < high < ordered[62]  # order statistics about 50.5 -+ 1.96 sqrt(101) / 2


def test_kaplan_meier_by_hand():
    """S falls at 1, 2, 4 to 5/6, 4/6, (4/6)(2/3): 3 is censored; then at 5 to (4/9)(1/2), and 6 is censored."""
    distance, censored = np.array([1.0, 2, 3, 4, 5, 6]), np.array([0, 0, 1, 0, 0, 1], bool)
    assert median_distance(distance, censored)[0] == 4
    assert median_distance(distance, np.array([0, 0, 1, 1, 1, 1], bool))[0] == np.inf
    assert median_distance(distance, np.ones(6, bool)) == (np.inf, 1, np.inf)
    assert np.isnan(median_distance(np.empty(0), np.empty(0, bool))).all()


@pytest.mark.parametrize("censored_beyond", [np.inf, 1.0])
def test_intervals_of_the_median_hold_what_they_say(censored_beyond):
    """400 samples of 60 exponential distances, some censored at 1: 95 % +- 3.3 %, three standard errors."""
    rng, truth, kept = np.random.default_rng(0), np.log(2), 0
    for _ in range(400):
        drawn = rng.exponential(size=60)
        _, low, high = median_distance(np.minimum(drawn, censored_beyond), drawn > censored_beyond)
        kept += low <= truth <= high
    assert abs(kept / 400 - 0.95) < 0.034


def test_comparing_two_networks(network, digits):
    closer = copy.deepcopy(network)
    with torch.no_grad():
        closer[1].bias[0] += 0.5
    first, second = (critical_distances(m, digits, ["fgsm"], eps=GRID, **QUIET) for m in (network, closer))
    both = ((first["censored"] >= 0) & (second["censored"] >= 0)).values[0]
    one, two = (d["critical_eps"].values[0][both] for d in (first, second))
    found = compare_distances(first, second).sel(walk="fgsm")
    assert int(found["images"]) == both.sum()
    assert float(found["farther"]) == (one > two).sum() / (one != two).sum()
    lengths = [d["distance"].values[0][both] for d in (first, second)]
    assert float(found["ratio"]) == pytest.approx(np.median(lengths[0]) / np.median(lengths[1]))
    same = compare_distances(first, first)
    assert (float(same["ratio"].item()), float(same["p_value"].item())) == (1, 1)
    with pytest.raises(NetprobeError, match="same images along the same walks"):
        compare_distances(first, critical_distances(network, digits, ["random"], eps=[1.0], **QUIET))


def test_the_coarse_attack_is_theirs(network, digits):
    """x' = clip(x + sum of steps, each projected), a loop with numpy."""
    x, y = digits.inputs.double()[:3], digits.labels[:3]
    for eps, stride in ((0.2, 0.01), (0.005, 0.0005)):
        z = x.clone()
        for _ in range(20):
            z.requires_grad_()
            nn.functional.cross_entropy(network(z), y, reduction="sum").backward()
            z = x + (z.detach() + stride * z.grad.sign() - x).clamp(-eps, eps)
        expected = z.clamp(0, 1)
        found = CoarsePGD(eps)(network, x, y, generator=None)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_walks_by_name_spec_and_instance():
    assert set(WALKS) == {"random", "fgsm", "pgd", "coarse-pgd"}
    assert walk("pgd").at(0.3) == PGD(0.3, restarts=3)
    assert walk("pgd:steps=7").at(0.3) == PGD(0.3, steps=7)
    assert walk(FGSM(0.1, norm="l2"), [0.1, 2.0]).at(2.0) == FGSM(2.0, norm="l2")
    assert walk("gaussian:clip=false").at(3.0) == GaussianNoise(3.0, clip=False)
    assert walk("fgsm", low=-1.0).at(0.5) == FGSM(0.5, low=-1.0)


def test_the_network_is_left_as_it_was(digits):
    model = shallow(in_features=64, hidden=8, batch_norm=True).train()
    before = copy.deepcopy(model.state_dict())
    critical_distances(model, digits, eps=[0.1], **QUIET)
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"walks": ["pgdd"]}, "did you mean 'pgd'"),
        ({"walks": []}, "one or more"),
        ({"walks": ["fgsm", "fgsm"]}, "different names"),
        ({"walks": ["fgsm"], "eps": [0.2, 0.1]}, "growing numbers above 0"),
        ({"walks": ["fgsm"], "eps": []}, "growing numbers above 0"),
        ({"walks": ["fgsm"], "eps": [8.0]}, "did you mean 8/255"),
        ({"walks": {"mine": lambda model, x, y, *, generator: x}}, "with a strength"),
    ],
)
def test_mistakes_are_named(options, message, network, digits):
    with pytest.raises(NetprobeError, match=message):
        critical_distances(network, digits, **(options | QUIET))


class Rounded(nn.Module):
    """A network behind a staircase of its inputs: no gradient comes through, and noise does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network((16 * x).round() / 16)


def test_attacks_that_noise_beats_are_doubted(network, digits, found):
    assert distance_doubts(found) == [] and json.loads(found.attrs["doubts"]) == []
    grids = {"random": np.geomspace(0.03, 20, 12), "fgsm": np.geomspace(0.03, 1, 6)}
    masked = critical_distances(Rounded(network), digits, list(grids), eps=grids, **QUIET)
    (doubt,) = distance_doubts(masked)
    assert doubt.startswith("random noise errs nearer than the attack (random, fgsm) on ")
    tree = xr.DataTree.from_dict({"plain/distances": found, "masked/distances": masked})
    assert set(trust(tree)) == {"masked"} and "do not trust the distances of attacks" in trust(tree)["masked"]


def test_an_iteration_that_one_step_beats_is_doubted(found):
    weak = found["critical_eps"].where(found["walk"] != "pgd", 2 * found["critical_eps"])
    (doubt,) = distance_doubts(found.assign(critical_eps=weak))
    assert "a single step needs less than the iteration (fgsm, pgd)" in doubt
