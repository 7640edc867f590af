"""Pixel similarity against its formula, loop by loop, and the ranges of pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny import images

from netprobe import data as npdata
from netprobe.errors import NetprobeError
from netprobe.representations.pairs import pair_count, pairs_at
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.ranges import KEPT, SimilarityRange


def slow(x: np.ndarray, centre: str = "mean image") -> np.ndarray:
    """x (N, C, H, W)."""
    grey = [image.mean(0).ravel() for image in x.astype(np.float64)]
    mean = sum(grey) / len(grey)
    rows = [{"mean image": g - mean, "own mean": g - g.mean(), "none": g}[centre] for g in grey]
    return np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in rows] for a in rows])


@pytest.fixture(scope="module")
def data() -> npdata.Data:
    return images(23)


@pytest.mark.parametrize("centre", ["mean image", "own mean", "none"])
def test_every_number_is_its_formula(data, centre):
    similarity, expected = PixelSimilarity(data, centre=centre), slow(data.inputs.numpy(), centre)
    np.testing.assert_allclose(similarity.matrix(), expected, atol=1e-13)
    i, j = torch.tensor([0, 5, 22, 3]), torch.tensor([7, 5, 1, 4])
    np.testing.assert_allclose(similarity.pairs(i, j), expected[i, j], atol=1e-13)
    np.testing.assert_allclose(similarity.matrix(i), expected[np.ix_(i, i)], atol=1e-13)


def test_it_is_a_similarity(data):
    matrix = PixelSimilarity(data).matrix()
    assert torch.equal(matrix, matrix.T) and matrix.abs().max() <= 1
    np.testing.assert_allclose(matrix.diagonal(), 1, rtol=1e-14)


def test_a_picture_added_to_all_images_changes_nothing(data):
    x = data.inputs.double()
    expected = PixelSimilarity(x).matrix()
    np.testing.assert_allclose(PixelSimilarity(x + 3 * torch.rand(1, 3, 6, 5)).matrix(), expected, atol=1e-12)
    assert (PixelSimilarity(x + 3, centre="none").matrix() - expected).abs().max() > 0.5


def test_negating_the_deviations_of_an_image_flips_its_signs(data):
    """Images in pairs around their mean: exchanging the two of a pair negates the deviation and keeps the mean."""
    x = data.inputs[:6].double()
    both = torch.cat([0.5 + x, 0.5 - x])
    matrix = PixelSimilarity(both).matrix()
    np.testing.assert_allclose(matrix[:6, 6:], -matrix[:6, :6], atol=1e-12)


def test_contrast_does_not_count_and_grey_is_the_mean_of_the_channels(data):
    x = data.inputs.double()
    centred = (x - x.mean(0)) * torch.logspace(-3, 3, 23)[:, None, None, None]
    again = centred - centred.mean(0)
    np.testing.assert_allclose(PixelSimilarity(centred).matrix(), slow(again.numpy()), atol=1e-12)
    np.testing.assert_allclose(
        PixelSimilarity(x.mean(1, keepdim=True)).matrix(), PixelSimilarity(x).matrix(), atol=1e-13
    )


def test_bytes_are_read_as_their_float_images():
    stored = (images(9).inputs * 255).round().byte()
    data = npdata.load((stored, torch.arange(9) % 3))
    assert data.stored.dtype == torch.uint8
    np.testing.assert_allclose(PixelSimilarity(data).matrix(), slow(data.inputs.numpy()), atol=1e-13)


def test_an_image_without_contrast_is_similar_to_none():
    x = images(4).inputs.double()
    x[3] = x[:3].mean(0)  # the mean image of all four
    matrix = PixelSimilarity(x).matrix()
    assert not matrix[3].any() and matrix.isfinite().all()
    flat = torch.full((3, 1, 4, 4), 0.3)
    assert not PixelSimilarity(flat).matrix().any() and not PixelSimilarity(flat, centre="own mean").matrix().any()


@pytest.mark.parametrize("size", [1, 5, 23, 100])
def test_blocks_are_the_upper_triangle_once(data, size):
    similarity, seen = PixelSimilarity(data), np.zeros((23, 23), int)
    matrix = similarity.matrix().numpy()
    for block in similarity.blocks(size):
        rows, columns = (places.numpy() for places in (block.rows, block.columns))
        np.testing.assert_allclose(block.similarity, matrix[np.ix_(rows, columns)], atol=1e-14)
        seen[np.ix_(rows, columns)] += block.upper.numpy()
    np.testing.assert_array_equal(seen, np.triu(np.ones((23, 23), int), 1))


@pytest.mark.parametrize("n", [2, 3, 10])
def test_pairs_by_their_ranks(n):
    i, j = pairs_at(torch.arange(pair_count(n)), n)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == list(itertools.combinations(range(n), 2))


def test_ranks_of_many_images_are_exact():
    """Around the ends of rows, where a square root would round to the wrong one."""
    n = 50_000
    i = torch.cat([torch.arange(50), torch.randint(0, n - 1, (5000,)), torch.arange(n - 51, n - 1)])
    for j in (i + 1, torch.full_like(i, n - 1)):
        found = pairs_at(i * (2 * n - i - 1) // 2 + j - i - 1, n)
        assert torch.equal(found[0], i) and torch.equal(found[1], j)


def test_a_rank_that_no_pair_has_is_an_error():
    with pytest.raises(NetprobeError, match="10 images have pairs 0 to 44; asked for 3 to 45"):
        pairs_at(torch.tensor([3, 45]), 10)


S = torch.tensor([-1, -0.9, -0.8, -0.5, -0.1, 0, 0.1, 0.5, 0.8, 0.9, 1], dtype=torch.float64)


def test_targets_are_signs_beyond_the_threshold():
    assert SimilarityRange(0.8).targets(S).tolist() == [-1, -1, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert SimilarityRange(0.8, boost=0.5).targets(S).tolist() == [-0.5, -0.5, 0, 0, 0, 0, 0, 0, 0, 0.5, 0.5]
    assert torch.equal(SimilarityRange(None).targets(S), S)
    assert not SimilarityRange(1.0).targets(S).any() and not SimilarityRange(1.5).targets(S).any()
    assert SimilarityRange(0.0).targets(S[S != 0]).abs().eq(1).all()


def test_which_pairs_each_range_keeps():
    kept = {name: S[SimilarityRange(0.8, name, 0.2 if name == "double" else None).keeps(S)].tolist() for name in KEPT}
    assert kept == {
        "all": S.tolist(),
        "low": [-0.5, -0.1, 0, 0.1, 0.5],
        "high": [-1, -0.9, 0.9, 1],
        "high_positive": [0.9, 1],
        "positive": [-0.5, -0.1, 0, 0.1, 0.5, 0.9, 1],
        "negative": [-1, -0.9, -0.5, -0.1, 0, 0.1, 0.5],
        "double": [-1, -0.9, -0.1, 0, 0.1, 0.9, 1],
    }


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.8])
def test_ranges_of_images_add_up(data, threshold):
    """Equality with the threshold has probability 0 here."""
    similarity = PixelSimilarity(data)
    pairs = {name: _pairs(similarity, SimilarityRange(threshold, name)) for name in KEPT if name != "double"}
    assert len(pairs["all"]) == pair_count(23) and pairs["low"] | pairs["high"] == pairs["all"]
    assert not pairs["low"] & pairs["high"]
    assert pairs["positive"] & pairs["negative"] == pairs["low"]
    assert pairs["high_positive"] == pairs["positive"] & pairs["high"]


def test_double_targets_are_still_signs_and_zeros(data):
    chosen = SimilarityRange(0.3, "double", lower=0.1)
    i, j = PixelSimilarity(data).kept_pairs(chosen)
    found = PixelSimilarity(data).pairs(i.long(), j.long())
    assert ((found.abs() > 0.3) == (chosen.targets(found) != 0)).all() and (found.abs() < 0.1).any()


def _pairs(similarity: PixelSimilarity, chosen: SimilarityRange) -> set[tuple[int, int]]:
    i, j = similarity.kept_pairs(chosen)
    assert (i < j).all()
    return set(zip(i.tolist(), j.tolist(), strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kept": "hihg"}, "unknown range of similarities 'hihg': did you mean 'high'"),
        ({"kept": "low", "threshold": None}, "kept='low' needs a threshold"),
        ({"threshold": -0.1}, "threshold=-0.1: give 0 or more"),
        ({"kept": "double"}, "'double' alone takes lower"),
        ({"lower": 0.2}, "'double' alone takes lower"),
        ({"kept": "double", "lower": 0.9}, "lower=0.9 must lie between 0 and threshold=0.8"),
    ],
)
def test_ranges_that_make_no_sense_are_errors(settings, message):
    with pytest.raises(NetprobeError, match=message):
        SimilarityRange(**settings)


def test_only_images_have_pixels():
    with pytest.raises(NetprobeError, match=r"two images \(N, C, H, W\) or more; these are \(3, 100\)"):
        PixelSimilarity(torch.rand(3, 100))
    with pytest.raises(NetprobeError, match="unknown centre 'mean'"):
        PixelSimilarity(images(), centre="mean")
