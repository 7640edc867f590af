"""Noise per image: what it depends on, what it does not, and that it is noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from netprobe.errors import NetprobeError
from netprobe.perturb.randomness import ImageGenerator, normal, poisson, select, uniform

DRAWS = {"normal": (normal, "standard_normal", "norm"), "uniform": (uniform, "random", "uniform")}
every_draw = pytest.mark.parametrize(("draw", "method", "distribution"), DRAWS.values(), ids=DRAWS)
IMAGES = [4, 0, 17, 2**40, 5]


def blank(n: int = len(IMAGES), dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(n, 3, 5, 2, dtype=dtype)


@every_draw
def test_a_draw_is_the_philox_stream_of_seed_image_and_count(draw, method, distribution):
    generator = ImageGenerator(2**63 + 1, IMAGES)
    for count in range(3):
        drawn = draw(blank(), generator)
        for row, image in zip(drawn, IMAGES, strict=True):
            key = np.array([2**63 + 1, image], dtype=np.uint64)
            stream = np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, count], dtype=np.uint64)))
            assert row.flatten().tolist() == getattr(stream, method)(30, dtype=np.float32).tolist()


@pytest.mark.parametrize("seed", [0, 7, 2**32, 2**63 + 1])
def test_torchs_own_functions_draw_from_the_seed_and_the_images_together(seed):
    for images in ([0], IMAGES, [2**32 - 1, 2**32, 2**62]):
        expected = np.random.SeedSequence([seed, *images]).generate_state(1)[0]
        assert ImageGenerator(seed, images).initial_seed() == expected


@every_draw
def test_a_draw_does_not_depend_on_the_batch(draw, method, distribution):
    together = draw(blank(), ImageGenerator(3, IMAGES))
    backwards = draw(blank(), ImageGenerator(3, IMAGES[::-1]))
    alone = torch.cat([draw(blank(1), ImageGenerator(3, [image])) for image in IMAGES])
    assert torch.equal(together, alone) and torch.equal(together, backwards.flip(0))


@every_draw
def test_draws_are_what_they_say_and_independent(draw, method, distribution):
    """Two draws of neighbouring images under neighbouring seeds: the keys that a weak mixing would confuse.

    One fixed seed at a level of 0.001; correlations of 30,000 pairs have a standard deviation of 0.006.
    """
    blocks = []
    for seed in (0, 1):
        generator = ImageGenerator(seed, range(1000))
        blocks += [draw(blank(1000), generator).flatten().numpy() for _ in range(2)]
    blocks.append(np.roll(blocks[0].reshape(1000, -1), 1, axis=0).ravel())
    assert all(stats.kstest(block, distribution).pvalue > 0.001 for block in blocks)
    correlations = np.corrcoef(blocks) - np.eye(len(blocks))
    assert np.abs(correlations).max() < 4 * 30_000**-0.5


@every_draw
def test_a_selection_goes_on_where_its_rows_are(draw, method, distribution):
    """Rows 0 and 2 have drawn twice, the others once; the third draw of all of them is the batch's."""
    generator, reference = ImageGenerator(3, IMAGES), ImageGenerator(3, IMAGES)
    first, second, third = (draw(blank(), reference) for _ in range(3))
    rows = torch.tensor([2, 0])
    assert torch.equal(draw(blank(), generator), first)
    part = select(generator, rows)
    assert torch.equal(draw(blank(2), part), second[rows])
    assert torch.equal(draw(blank(1), select(part, torch.tensor([1]))), third[:1])
    assert torch.equal(draw(blank(2), select(generator, torch.tensor([1, 2]))), torch.stack([second[1], third[2]]))


@every_draw
def test_dtype_and_other_generators(draw, method, distribution):
    assert draw(blank(dtype=torch.float64), ImageGenerator(3, IMAGES)).dtype == torch.float64
    plain = [draw(blank(), torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*plain) and not torch.equal(plain[0][0], plain[0][1])
    plain = torch.Generator().manual_seed(1)
    assert select(plain, torch.tensor([0])) is plain and select(None, torch.tensor([0])) is None
    torch.manual_seed(9)
    glob = draw(blank(), None)
    assert not torch.equal(draw(blank(), None), glob)
    torch.manual_seed(9)
    assert torch.equal(draw(blank(), None), glob)


RATES = torch.linspace(0, 300, 150).view(5, 3, 5, 2)


def test_counts_are_those_of_numpy_on_the_image_s_stream():
    """The second draw, after uniform numbers: the stream of (seed, image, 1)."""
    generator = ImageGenerator(8, IMAGES)
    uniform(blank(), generator)
    for row, rates, image in zip(poisson(RATES, generator), RATES, IMAGES, strict=True):
        key, counter = np.array([8, image], dtype=np.uint64), np.array([0, 0, 0, 1], dtype=np.uint64)
        stream = np.random.Generator(np.random.Philox(key=key, counter=counter))
        assert row.tolist() == stream.poisson(rates.numpy()).tolist()


def test_counts_do_not_depend_on_the_batch():
    together = poisson(RATES, ImageGenerator(3, IMAGES))
    for k, image in enumerate(IMAGES):
        assert torch.equal(poisson(RATES[k : k + 1], ImageGenerator(3, [image])), together[k : k + 1])
    with pytest.raises(NetprobeError, match="for 5 images, the batch has 4"):
        poisson(RATES[:4], ImageGenerator(3, IMAGES))


@pytest.mark.parametrize("generator", ["image", "plain", "global"])
def test_counts_have_the_mean_and_variance_of_their_rate(generator):
    """30,000 counts: four standard errors, sqrt(rate / n) of the mean and about rate sqrt(2 / n) of the variance."""
    torch.manual_seed(2)
    generators = {"image": ImageGenerator(2, range(1000)), "plain": torch.Generator().manual_seed(2)}
    for rate in (0.5, 40.0):
        counts = poisson(torch.full((1000, 30), rate, dtype=torch.float64), generators.get(generator))
        assert counts.dtype == torch.float64 and torch.equal(counts, counts.round())
        assert counts.mean().item() == pytest.approx(rate, abs=4 * (rate / 30_000) ** 0.5)
        assert counts.var().item() == pytest.approx(rate, rel=0.06)


def test_it_is_also_a_plain_generator_seeded_by_seed_and_images():
    def drawn(seed: int, images: list[int]) -> list[float]:
        return torch.rand(3, generator=ImageGenerator(seed, images)).tolist()

    assert drawn(1, [0, 1]) == drawn(1, [0, 1])
    assert len({tuple(drawn(*case)) for case in [(1, [0, 1]), (2, [0, 1]), (1, [2, 3]), (1, [0])]}) == 4


def test_the_global_random_state_is_not_touched():
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].tolist()
    normal(blank(), ImageGenerator(3, IMAGES))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before


def test_mistakes_are_named():
    with pytest.raises(NetprobeError, match="for 5 images, the batch has 4"):
        normal(blank(4), ImageGenerator(3, IMAGES))
    with pytest.raises(NetprobeError, match="seed must be in"):
        ImageGenerator(-1, IMAGES)
    for images in ([[0, 1]], [-1]):
        with pytest.raises(NetprobeError, match="data-set indices"):
            ImageGenerator(3, images)
