"""Similarity matrices from elsewhere: what is read of them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import images

from netprobe.errors import NetprobeError
from netprobe.representations import given
from netprobe.representations.given import GivenSimilarity, check_images, matrix_hash, read_matrix
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.ranges import KEPT, SimilarityRange

N = 12


@pytest.fixture
def matrix() -> np.ndarray:
    return np.corrcoef(np.random.default_rng(0).normal(size=(N, 5)))


def ranges():
    return [SimilarityRange(0.4, kept, 0.2 if kept == "double" else None) for kept in KEPT]


@pytest.mark.parametrize("chosen", ranges(), ids=lambda chosen: chosen.kept)
@pytest.mark.parametrize("holes", [0, 30])
def test_pairs_and_ranges_are_those_of_the_entries(matrix, chosen, holes):
    rng = np.random.default_rng(1)
    for i, j in rng.integers(0, N, (holes, 2)):
        matrix[i, j] = matrix[j, i] = np.nan
    order = rng.permutation(N)[:9]
    similarity = GivenSimilarity(matrix, torch.from_numpy(order))
    assert len(similarity) == 9
    test = {
        "all": lambda s: True,
        "low": lambda s: abs(s) < 0.4,
        "high": lambda s: abs(s) > 0.4,
        "high_positive": lambda s: s > 0.4,
        "positive": lambda s: s > 0.4 or abs(s) < 0.4,
        "negative": lambda s: s < -0.4 or abs(s) < 0.4,
        "double": lambda s: abs(s) > 0.4 or abs(s) < 0.2,
    }[chosen.kept]
    entries = {(i, j): matrix[order[i], order[j]] for i in range(9) for j in range(i + 1, 9)}
    wanted = {pair for pair, value in entries.items() if not np.isnan(value) and test(value)}
    first, second = similarity.kept_pairs(chosen)
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    assert set(pairs) == wanted and len(pairs) == len(wanted) > 0
    assert similarity.pairs(first.long(), second.long()).tolist() == [entries[pair] for pair in pairs]


def test_the_matrix_and_its_blocks_are_those_of_pixels_if_it_is_theirs():
    pixels = PixelSimilarity(images(N))
    similarity = GivenSimilarity(pixels.matrix().numpy())
    assert torch.equal(similarity.matrix(), pixels.matrix())
    some = torch.tensor([3, 1, 7])
    assert torch.equal(similarity.matrix(some), pixels.matrix()[some][:, some])
    for one, other in zip(similarity.blocks(5), pixels.blocks(5), strict=True):
        assert torch.equal(one.rows, other.rows) and torch.equal(one.columns, other.columns)
        torch.testing.assert_close(one.similarity, other.similarity, rtol=0, atol=1e-12)


def test_a_mapped_matrix_is_as_one_in_memory_and_is_not_read_at_once(matrix, tmp_path, monkeypatch):
    np.save(tmp_path / "m.npy", matrix.astype(np.float32))
    there = read_matrix(tmp_path / "m.npy", "it")
    monkeypatch.setattr(given, "IN_MEMORY", 0)
    mapped = read_matrix(tmp_path / "m.npy", "it")
    assert isinstance(mapped, np.memmap) and not isinstance(there, np.memmap)
    monkeypatch.setattr(given, "BLOCK", 5)  # blocks that end within the matrix
    one, other = GivenSimilarity(there), GivenSimilarity(mapped)
    assert np.shares_memory(other._matrix, mapped)
    assert torch.equal(one.matrix(), other.matrix()) and one.matrix().dtype == torch.float64
    assert matrix_hash(mapped) == matrix_hash(there)


def test_the_hash_is_of_values():
    values = [[1, 0.5], [0.5, 0]]
    one = matrix_hash(np.array(values))
    assert one == matrix_hash(np.array(values, np.float16)) == matrix_hash(np.asfortranarray(values))
    assert one != matrix_hash(np.array([[1, 0.25], [0.25, 1]]))
    holes = [np.array([[1, hole], [hole, 1]]) for hole in (np.nan, -np.nan)]
    assert matrix_hash(holes[0]) == matrix_hash(holes[1]) != one
    assert matrix_hash(np.zeros((2, 2))) == matrix_hash(-np.zeros((2, 2)))
    assert matrix_hash(np.zeros((1, 4))) != matrix_hash(np.zeros((2, 2)))


def changed(matrix: np.ndarray, places: tuple, value: float) -> np.ndarray:
    matrix = matrix.copy()
    matrix[places] = value
    return matrix


def test_what_is_no_matrix_of_similarities_is_refused(matrix):
    for wrong, message in [
        (matrix[:5], r"the matrix is \(5, 12\), and must be square, \(image, image\): .* numpy.corrcoef\(responses\)"),
        (1 - matrix, r"must lie in \[-1, 1\]: give .* \(of distances"),
        (matrix[0], r"the matrix is \(12,\), and must be square"),
        (changed(matrix, (3, 7), 0.9), "not symmetric: .* of images 3 and 7"),
        (changed(matrix, (3, 7), np.nan), "not symmetric: .* as nan and"),
        (changed(matrix, ([2, 5], [5, 2]), 1.2), r"images 2 and 5, counted from 0, is 1.2, and must lie in \[-1, 1\]"),
        (changed(matrix, ([2, 5], [5, 2]), np.inf), "is inf, and must lie in"),
        (changed(matrix, ([2, 5], [5, 2]), -7), "is -7, and must lie in"),
        ((1 - matrix) / 2, "as distances have: give cosines"),
    ]:
        with pytest.raises(NetprobeError, match=message):
            GivenSimilarity(wrong)


def test_rounding_and_the_diagonal_are_no_mistakes(matrix):
    rounded = changed(matrix, ([2, 5], [5, 2]), 1.00001)
    rounded[0, 1] += 1e-9
    np.fill_diagonal(rounded, 40)
    similarity = GivenSimilarity(rounded)
    assert similarity.pairs(torch.tensor([2]), torch.tensor([5])).item() == 1
    ones = np.eye(3, dtype=bool)  # a matrix of who is like whom
    assert GivenSimilarity(ones).matrix().tolist() == np.eye(3).tolist()


def test_another_number_of_images_is_told_with_the_order_that_is_needed(matrix):
    with pytest.raises(NetprobeError, match=r"m is of 12 images, and there are 1,000: .* in the order of the set"):
        check_images(matrix, 1000, "m", "the set")


def test_files_that_hold_no_matrix(matrix, tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.save(tmp_path / "complex.npy", matrix * 1j)
    np.save(tmp_path / "words.npy", np.array([["a"]]))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    for name, message in [
        ("m.csv", "it: give a .npy file that holds a matrix"),
        ("absent.npy", "there is no file .*absent.npy: it is to hold a matrix"),
        ("objects.npy", "never unpickled"),
        ("cut.npy", "cannot be read .*: it is damaged"),
        ("complex.npy", "it is of complex128: a matrix .* is of real numbers"),
        ("words.npy", "it is of <U1"),
    ]:
        with pytest.raises(NetprobeError, match=message):
            read_matrix(tmp_path / name, "it")
