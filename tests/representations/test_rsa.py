"""Correlations of similarity matrices against scipy on lists of pairs, resamples written out, and their laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from tiny import QUIET, ConvNet, images, lookup, seeded, shifted
from torch import nn

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.representations.correlating import Pairs, off_diagonal, permuted, resampled
from netprobe.representations.matrices import similarity_matrices
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.rsa import BINS, rsa

N = 20
FAST = {"resamples": 30, "permutations": 99, "progress": False}
METHOD = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}


def matrices(models, data, perturbations=None, **settings) -> xr.DataTree:
    return similarity_matrices(models, data, perturbations, **{**QUIET, "dtype": "float64", **settings})


def listed(matrix: np.ndarray, draws: np.ndarray | None = None) -> list[float]:
    """The similarities of the pairs of the images drawn, those of an image with itself left out."""
    draws = np.arange(len(matrix)) if draws is None else draws
    return [matrix[i, j] for i, j in itertools.combinations(draws, 2) if i != j]


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    data = images(N)
    models = {"a": seeded(ConvNet), "b": seeded(ConvNet, width=9, seed=1)}
    return matrices(models, data, {"noise": lookup(shifted(data, 0.2))})


@pytest.fixture(scope="module")
def mine() -> np.ndarray:
    """A user's matrix, with many ties."""
    half = np.random.default_rng(0).integers(-2, 3, (N, N)).astype(float)
    return half + half.T


@pytest.fixture(scope="module")
def found(tree, mine) -> xr.DataTree:
    return rsa(tree, {"mine": mine}, **FAST)


def matrix_of(tree: xr.DataTree, name: str, mine: np.ndarray) -> np.ndarray:
    if "/" not in name:
        return mine if name == "mine" else tree["a/similarity"]["pixel_similarity"].values
    model, condition, site = name.split("/")
    return tree[model]["similarity"]["similarity"].sel(condition=condition, site=site).values


@pytest.mark.parametrize("method", METHOD)
def test_every_number_is_scipys(tree, mine, found, method):
    others = [f"{m}/{c}/{s}" for m in "ab" for c in ("clean", "noise") for s in ("conv1", "conv2", "head")]
    for model in "ab":
        values = found[model]["rsa"][method]
        assert values["other"].values.tolist() == ["pixels", "mine", *others]
        for name in others:
            if name[0] == model:
                _, condition, site = name.split("/")
                left = listed(matrix_of(tree, name, mine))
                expected = [METHOD[method](left, listed(matrix_of(tree, o, mine)))[0] for o in values["other"].values]
                np.testing.assert_allclose(values.sel(condition=condition, site=site), expected, atol=1e-12)


@pytest.mark.parametrize("method", METHOD)
def test_resamples_are_of_images_without_pairs_of_an_image_with_itself(tree, mine, method):
    """The weighted correlation is that of the list of all pairs of the images drawn."""
    names = ("a/clean/conv2", "b/noise/head", "mine")
    every = np.array([matrix_of(tree, name, mine) for name in names])
    pairs, rng = Pairs(off_diagonal(every), N), np.random.default_rng(5)
    for weights in resampled(N, 4, 5):
        draws = rng.integers(0, N, N)
        lists = [listed(matrix, draws) for matrix in every]
        assert weights.sum() == len(lists[0]) < N * (N - 1) / 2
        expected = [[METHOD[method](one, other)[0] for other in lists] for one in lists]
        np.testing.assert_allclose(pairs.correlations(method, 3, weights), expected, atol=1e-12)


def test_intervals_are_percentiles_of_the_resamples(tree, mine, found):
    pairs = Pairs(off_diagonal(np.array([matrix_of(tree, n, mine) for n in ("mine", "a/clean/conv1")])), N)
    drawn = [pairs.correlations("spearman", 1, weights)[1, 0] for weights in resampled(N, FAST["resamples"], 0)]
    bounds = found["a/rsa"]["spearman_interval"].sel(condition="clean", site="conv1", other="mine")
    np.testing.assert_allclose(bounds, np.quantile(drawn, [0.025, 0.975]), atol=1e-12)


def test_permutations_reorder_the_images():
    matrix = np.random.default_rng(0).normal(size=(7, 7))
    matrix, rng = matrix + matrix.T, np.random.default_rng(3)
    for rows in permuted(off_diagonal(matrix)[None], 7, 5, 3):
        order = rng.permutation(7)
        np.testing.assert_array_equal(rows[0], off_diagonal(matrix[np.ix_(order, order)]))


def test_p_values_are_smallest_for_what_is_the_same_and_even_for_what_is_unrelated(tree):
    same = matrix_of(tree, "a/clean/conv1", None)
    rng = np.random.default_rng(0)
    unrelated = {f"{k}": rng.normal(size=(N, N)) for k in range(40)}
    unrelated = {name: m + m.T for name, m in unrelated.items()}
    found = rsa(tree, {"same": same, **unrelated}, among=False, **{**FAST, "resamples": 0})["a/rsa"].to_dataset()
    at = found.sel(condition="clean", site="conv1")
    assert at.pearson_p.sel(other="same") == at.spearman_p.sel(other="same") == 1 / 100
    assert at.pearson.sel(other="same").item() == pytest.approx(1)
    p = at.pearson_p.sel(other=list(unrelated)).values
    assert stats.kstest(p, "uniform").pvalue > 0.001 and found.pearson_interval.isnull().all()


def test_representations_have_no_p_value(found):
    p = found["a/rsa"]["pearson_p"]
    assert p.sel(other=["pixels", "mine"]).notnull().all() and p[..., 2:].isnull().all()


def test_a_layer_that_hands_on_the_pixels_has_their_similarity():
    """A rotation of grey images, less the mean of each unit: exactly S^pixel."""
    data = images(N, shape=(1, 4, 5))
    rotation = nn.Linear(20, 20, bias=False)
    rotation.weight.data = torch.linalg.qr(torch.randn(20, 20))[0]
    tree = matrices(nn.Sequential(nn.Flatten(), rotation), data, centre="unit")
    node = tree["Sequential/similarity"].to_dataset()
    np.testing.assert_allclose(node["similarity"].squeeze(), node["pixel_similarity"], atol=1e-6)
    np.testing.assert_array_equal(node["pixel_similarity"], PixelSimilarity(data).matrix())
    found = rsa(tree, **FAST)["Sequential/rsa"].to_dataset().sel(other="pixels").squeeze()
    assert found["pearson"].item() == pytest.approx(1, abs=1e-6)
    assert found["pearson_interval"].values == pytest.approx([1, 1], abs=1e-6)


def test_the_order_of_the_images_does_not_matter(tree, mine, found):
    order = np.random.default_rng(1).permutation(N)
    shuffled = tree.map_over_datasets(lambda d: d.isel({k: order for k in ("image", "other_image") if k in d.dims}))
    other = rsa(shuffled, {"mine": mine[np.ix_(order, order)]}, **FAST)
    for method in METHOD:
        np.testing.assert_allclose(other["b/rsa"][method], found["b/rsa"][method], atol=1e-12)


def test_increasing_transforms_keep_ranks_and_straight_ones_everything(tree, mine, found):
    other = rsa(tree, {"mine": 3 * mine - 100}, **FAST)["a/rsa"]
    np.testing.assert_allclose(other["pearson"], found["a/rsa"]["pearson"], atol=1e-12)
    other = rsa(tree, {"mine": np.exp(mine)}, **FAST)["a/rsa"]
    np.testing.assert_allclose(other["spearman"], found["a/rsa"]["spearman"], atol=1e-12)
    np.testing.assert_allclose(other["spearman_interval"], found["a/rsa"]["spearman_interval"], atol=1e-12)
    negative = rsa(tree, {"mine": -mine}, **FAST)["a/rsa"]
    np.testing.assert_allclose(negative["pearson"][..., 1], -found["a/rsa"]["pearson"][..., 1], atol=1e-12)


def test_what_does_not_vary_or_is_undefined_has_no_correlation(tree, mine):
    hole = mine.copy()
    hole[3, 4] = hole[4, 3] = np.nan
    found = rsa(tree, {"flat": np.full((N, N), 0.3), "hole": hole, "mine": mine}, **FAST)["a/rsa"]
    for name in ("pearson", "pearson_interval", "pearson_p", "spearman", "spearman_interval", "spearman_p"):
        assert found[name].sel(other=["flat", "hole"]).isnull().all(), name
        assert found[name].sel(other="mine").notnull().all(), name


def test_the_joint_histogram_holds_every_pair(tree, mine, found):
    data = found["a/rsa"].sel(condition="noise", site="conv2")
    assert (data["joint"].sum(("level", "reference_level")) == N * (N - 1) / 2).all()
    x, y = (listed(matrix_of(tree, name, mine)) for name in ("a/noise/conv2", "pixels"))
    expected, edges, _ = np.histogram2d(x, y, BINS)
    np.testing.assert_array_equal(data["joint"].sel(reference="pixels"), expected)
    np.testing.assert_allclose(data["level_value"], (edges[1:] + edges[:-1]) / 2)


def test_results_are_kept_in_a_file(found, tmp_path):
    npb.save_results(found, tmp_path / "rsa.nc")
    xr.testing.assert_identical(npb.open_results(tmp_path / "rsa.nc"), found)


def test_same_seed_same_numbers(tree, mine, found):
    xr.testing.assert_identical(rsa(tree, {"mine": mine}, **FAST), found)
    other = rsa(tree, {"mine": mine}, seed=1, **FAST)["a/rsa"]
    assert not np.array_equal(other["pearson_interval"], found["a/rsa"]["pearson_interval"])


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (np.eye(5), "the reference 'mine' is of 5 images, and there are 20: it needs a row and a column for each"),
        (np.ones((20, 3)), r"the reference 'mine' is \(20, 3\), and must be square"),
        (np.arange(400.0).reshape(20, 20), "the reference 'mine' is not symmetric"),
    ],
)
def test_references_that_do_not_fit(tree, reference, message):
    with pytest.raises(NetprobeError, match=message):
        rsa(tree, {"mine": reference})


def test_what_cannot_be_compared_is_an_error(tree):
    with pytest.raises(NetprobeError, match="there are no similarity matrices"):
        rsa(xr.DataTree())
    moved = tree.copy(deep=True)
    moved["b/similarity"] = xr.DataTree(tree["b/similarity"].to_dataset().isel(image=slice(5), other_image=slice(5)))
    with pytest.raises(NetprobeError, match="'b' saw other images than 'a'"):
        rsa(moved)
    with pytest.raises(NetprobeError, match="RSA needs 4 images or more; these are 3"):
        rsa(matrices(seeded(ConvNet), images(3)))
    bare = tree.map_over_datasets(lambda d: d.drop_vars("pixel_similarity", errors="ignore"))
    with pytest.raises(NetprobeError, match="nothing to compare with"):
        rsa(bare, among=False)


def test_too_large_matrices_are_refused_before_any_work():
    with pytest.raises(NetprobeError, match=r"the 3 Gram matrices of 20 images need .* memory=9KB"):
        matrices(seeded(ConvNet), images(N), memory="9KB")
