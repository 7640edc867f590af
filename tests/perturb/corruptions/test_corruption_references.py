"""Every corruption against a slow reference of one image: the same result, or the same distribution of the change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from per_image_corruptions import LEVELS, REFERENCE, corrupted
from torch import Tensor

from netprobe.perturb import ImageGenerator
from netprobe.perturb.corruptions import CORRUPTIONS, SEVERITIES, Corruption

DETERMINISTIC = {
    # Float32 sums of at most a few hundred values near 1; JPEG decodes the same bytes.
    "brightness": 2e-6,
    "contrast": 2e-6,
    "defocus_blur": 1e-5,
    "gaussian_blur": 1e-5,
    "jpeg_compression": 1e-6,
    "saturate": 1e-5,
    "zoom_blur": 2e-5,
    # The reference is Pillow's, rounded to 8 bits in each of four passes; two of them copy, two average.
    "pixelate": 1.01 / 255,
}
RANDOM = sorted(set(CORRUPTIONS) - set(DETERMINISTIC) - {"frost"})
SIZES = {"cifar": (32, 32), "imagenet": (64, 72)}


def pictures(count: int, height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Images of 8 bits with the power spectrum of photographs, f^-2; the second and every other is without extremes."""
    rng = np.random.default_rng(seed)
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)) + 1 / max(height, width)
    fields = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, 2 * channels, height, width))) / f).real
    fields /= fields.std((2, 3), keepdims=True)
    x = 0.5 + 0.25 * fields[:, :1] + 0.1 * fields[:, channels : 2 * channels]
    x = x.clip(0, 1)
    x[1::2] = 0.1 + 0.7 * x[1::2]
    return torch.from_numpy(np.round(255 * x) / 255).float()


def run(corruption: Corruption, x: Tensor, seed: int = 5) -> Tensor:
    return corruption(None, x, None, generator=ImageGenerator(seed, range(len(x))))


def test_every_corruption_has_a_reference_and_its_constants():
    assert {*REFERENCE, "frost"} == set(CORRUPTIONS)
    assert {name: tuple(cls.levels) for name, cls in CORRUPTIONS.items()} == LEVELS


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("constants", SIZES)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_what_is_not_random_equals_the_reference(name, constants, severity):
    x = pictures(3, *SIZES[constants])
    corruption = CORRUPTIONS[name](severity)
    expected = corrupted(name, x.numpy(), corruption.level(x), seed=0)
    np.testing.assert_allclose(run(corruption, x).numpy(), expected, rtol=0, atol=DETERMINISTIC[name])


@pytest.mark.parametrize("name", [name for name in DETERMINISTIC if name != "saturate"])
def test_grey_images_equal_the_reference_too(name):
    x = pictures(3, 21, 34, channels=1)
    corruption = CORRUPTIONS[name](5)
    expected = corrupted(name, x.numpy(), corruption.level(x), seed=0)
    np.testing.assert_allclose(run(corruption, x).numpy(), expected, rtol=0, atol=DETERMINISTIC[name])


class Replay:
    """The numbers that the library draws for one image, handed out where a reference asks for its own."""

    def __init__(self, seed: int, image: int) -> None:
        self.generator = ImageGenerator(seed, [image])

    def normal(self, loc: float, scale: float, shape: tuple[int, ...]) -> np.ndarray:
        return loc + scale * self.generator.block("standard_normal", (1, *shape))[0].double().numpy()

    def uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> np.ndarray:
        drawn = self.generator.block("random", (1, *(shape or (1,))))[0].double().numpy()
        return low + (high - low) * (drawn if shape else drawn.item())


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("constants", SIZES)
@pytest.mark.parametrize("name", ["elastic_transform", "fog", "motion_blur", "snow", "spatter"])
def test_the_same_random_numbers_give_the_same_image(name, constants, severity):
    """In float64, where both do the same sums; 1e-9 for the thousands of terms of a blur at steep edges."""
    x, corruption = pictures(2, *SIZES[constants]).double(), CORRUPTIONS[name](severity)
    for number, (image, changed) in enumerate(zip(x, run(corruption, x), strict=True)):
        expected = REFERENCE[name](image.movedim(0, 2).numpy(), corruption.level(x), Replay(5, number))
        np.testing.assert_allclose(changed.movedim(0, 2), expected.clip(0, 1), rtol=0, atol=1e-9)


def features(change: np.ndarray) -> dict[str, np.ndarray]:
    """What is known of the change of each image: mean, size, square, and its power in three bands of frequency."""
    power = np.square(np.abs(np.fft.fft2(change))).mean(1) / change[0, 0].size
    f = np.hypot(np.fft.fftfreq(change.shape[2])[:, None], np.fft.fftfreq(change.shape[3]))
    bands = {f"power from {low}": power[:, (f >= low) & (f < high)].mean(1)
             for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 1))}  # fmt: skip
    values = change.reshape(len(change), -1)
    return {"mean": values.mean(1), "size": np.abs(values).mean(1), "square": np.square(values).mean(1)} | bands


def assert_alike(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Paired over images: no mean difference beyond five of its standard errors (a chance of 6e-7 each)."""
    theirs = features(theirs)
    for what, values in features(ours).items():
        difference = values - theirs[what]
        error = difference.std(ddof=1) / len(difference) ** 0.5
        assert abs(difference.mean()) <= 5 * error + 1e-6, f"{what}: {values.mean():.4g} for {theirs[what].mean():.4g}"


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("constants", SIZES)
@pytest.mark.parametrize("name", RANDOM)
def test_what_is_random_changes_images_as_the_reference_does(name, constants, severity):
    x = pictures(40 if constants == "cifar" else 10, *SIZES[constants])
    corruption = CORRUPTIONS[name](severity)
    expected = corrupted(name, x.numpy(), corruption.level(x), seed=severity)
    assert_alike((run(corruption, x) - x).numpy(), expected - x.numpy())
