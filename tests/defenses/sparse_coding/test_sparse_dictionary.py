"""Learning dictionaries."""

import numpy as np
import pytest
import torch

from netprobe import data
from netprobe.defenses import SparseCodingDefense
from netprobe.defenses.sparse_coding import dictionary as learning
from netprobe.defenses.sparse_coding import learn_dictionary
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn
from netprobe.store.scratch import Scratch

HOW = {"atoms": 30, "patch": 4, "stride": 2, "penalty": 0.1, "steps": 60, "progress": False}


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train", limit=200)


@pytest.fixture(scope="module")
def held_out(digits):
    return learning.draw_patches(digits, 200, 4, 2, np.random.default_rng(99))


@pytest.fixture(scope="module")
def reproduced(digits):
    return learn_dictionary(digits, **HOW)


@pytest.fixture(scope="module", autouse=True)
def few_patches():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(learning, "SAMPLE", 600)
        patched.setattr(learning, "PASSES", 5)
        yield


@pytest.fixture(scope="module")
def converged(digits):
    return learn_dictionary(digits, **HOW, mode="converged")


@pytest.mark.parametrize("mode", ["reproduced", "converged"])
def test_atoms_are_filters_of_unit_length(mode, request):
    found = request.getfixturevalue(mode)
    assert found.shape == (30, 1, 4, 4)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.ones(30))


@pytest.mark.parametrize("mode", ["reproduce", "converged"])
def test_the_same_seed_gives_the_same_bits_and_another_others(mode, digits, monkeypatch):
    monkeypatch.setattr(learning, "SAMPLE", 100)
    how = HOW | {"mode": mode, "steps": 10, "atoms": 20}
    one, again, other = (learn_dictionary(digits, **how, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_global_random_numbers_are_left_alone(digits):
    torch.manual_seed(1), np.random.seed(1)
    learn_dictionary(digits, **HOW | {"steps": 3})
    found = torch.rand(3), np.random.rand(3)
    torch.manual_seed(1), np.random.seed(1)
    assert torch.equal(found[0], torch.rand(3))
    assert (found[1] == np.random.rand(3)).all()


def test_the_objective_falls_with_learning_and_further_where_it_converges(digits, held_out, reproduced, converged):
    begun = learn_dictionary(digits, **HOW | {"steps": 1})
    values = [learning.objective(each, held_out, HOW["penalty"]) for each in (begun, reproduced, converged)]
    assert values[0] > 1.1 * values[1] > 1.1 * values[2]


def test_the_objective_is_the_least_over_codes(held_out, reproduced):
    """No code does better: the subgradient of the lasso at the solution is where it must be."""
    atoms, penalty = reproduced.flatten(1).double().numpy(), 0.1
    codes = learning._codes(held_out, atoms, penalty)
    slopes = (held_out - codes @ atoms) @ atoms.T
    assert np.abs(slopes).max() <= penalty * (1 + 1e-6)
    there = np.isclose(slopes[codes != 0], penalty * np.sign(codes[codes != 0]), rtol=1e-6)
    assert there.mean() > 0.99  # scikit-learn's LARS keeps a few coefficients that it should have dropped
    by_hand = 0.5 * ((held_out - codes @ atoms) ** 2).sum() + penalty * np.abs(codes).sum()
    assert learning.objective(reproduced, held_out, penalty) == pytest.approx(by_hand / len(held_out))


def test_a_step_is_that_of_the_published_solver():
    """Atom by atom with the residual made anew each time."""
    drawn = np.random.default_rng(0)
    D = drawn.standard_normal((6, 8))
    D /= np.linalg.norm(D, axis=0)
    codes, x = drawn.standard_normal((5, 8)), drawn.standard_normal((5, 6))
    codes[:, 3] = 0
    A, B = codes.T @ codes, x.T @ codes
    expected = D.copy()
    fresh = np.random.default_rng(1)
    for k in range(8):
        others = B - expected @ A + np.outer(expected[:, k], A[k])
        atom = others @ A[k] if k != 3 else fresh.standard_normal(6)
        expected[:, k] = atom / np.linalg.norm(atom)
    found = np.asfortranarray(D)
    learning._update(found, A, B, np.random.default_rng(1))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_steps_before_count_less_and_less_at_first():
    kept = [learning._kept(step) for step in range(1000)]
    assert kept[:5] == pytest.approx([1 / 6, 6 / 11, 11 / 16, 16 / 21, 21 / 26])
    assert kept[5:] == sorted(kept[5:])
    assert 0.99 < kept[-1] < 1


def test_patches_come_from_the_grid_channel_by_channel():
    stored = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).view(2, 3, 6, 6) / 216
    images = data.Data(stored, torch.zeros(2, dtype=torch.int64), ("a", "b"), "ramp")
    found = learning.draw_patches(images, 60, 4, 2, np.random.default_rng(0))
    grid = {
        tuple(stored[i, :, y : y + 4, x : x + 4].flatten().double().tolist())
        for i in range(2)
        for y in (0, 2)
        for x in (0, 2)
    }
    assert {tuple(patch) for patch in found.tolist()} == grid


def test_an_unknown_mode_is_an_error(digits):
    with pytest.raises(NetprobeError, match="did you mean 'reproduce'"):
        learn_dictionary(digits, **HOW, mode="reproduced")


@pytest.mark.slow
def test_the_published_schedule_gives_a_dictionary_like_the_released_one(data_root):
    """What was measured of the dictionary of CIFAR-10 that the authors released, and of codes by it."""
    images, held_out = (
        data.load("cifar10-jpeg", part, limit=limit) for part, limit in (("train", 20_000), ("test", 200))
    )
    defense = SparseCodingDefense().completed(images)
    model = defense.build(digits_cnn())
    defense.prepare(model, images, 0, progress=False, scratch=Scratch())
    encoder = model.front.encoder
    atoms = encoder.dictionary.flatten(1).double()
    cosines = (atoms @ atoms.T).abs()[~torch.eye(500, dtype=torch.bool)]
    bright = atoms.sum(1) / 48**0.5
    # Seeds differ by some hundredths; a penalty of 1 gives 0.12, 5.6, 0.16 and 0.05.
    assert cosines.mean() == pytest.approx(0.63, abs=0.12)
    assert encoder.lengths().mean() == pytest.approx(6.40, abs=0.3)
    assert bright.abs().mean() == pytest.approx(0.78, abs=0.1)
    assert (bright.abs() > 0.9).double().mean() == pytest.approx(0.53, abs=0.1)
    assert (bright < -0.9).sum() / (bright.abs() > 0.9).sum() == pytest.approx(0.5, abs=0.1)
    noise = 8 / 255 * (2 * torch.randint(0, 2, held_out.inputs.shape) - 1)
    for top, changed in ((50, 0.06), (15, 0.11), (5, 0.17), (1, 0.26)):
        encoder.top = top
        here, there = encoder(held_out.inputs), encoder(held_out.inputs + noise)
        kept = torch.zeros(*here.index.shape[:-1], 500, dtype=torch.bool).scatter(-1, here.index, True)
        assert 1 - kept.gather(-1, there.index).double().mean() == pytest.approx(changed, abs=0.25 * changed)
        assert (here.values != 0).double().mean() == pytest.approx(0.98, abs=0.015)
        assert not (here.dense() * there.dense() < 0).any()
