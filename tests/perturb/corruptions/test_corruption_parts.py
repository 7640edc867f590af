"""The parts that corruptions are made of, on the same random numbers as a slow reference: equal, not only alike."""

from __future__ import annotations

import math

import numpy as np
import per_image_corruptions as slow
import pytest
import torch
from PIL import Image
from scipy import ndimage
from test_corruption_references import pictures, run

from netprobe.errors import MissingData, NetprobeError
from netprobe.perturb import ImageGenerator
from netprobe.perturb.corruptions import (
    AdditiveGaussianNoise,
    Contrast,
    Fog,
    Frost,
    ImpulseNoise,
    JPEGCompression,
    Saturate,
    ShotNoise,
    elastic,
    filters,
    frost,
    glass,
    motion,
    spatter,
)
from netprobe.perturb.corruptions.edges import distance, edges
from netprobe.perturb.corruptions.plasma import plasma


@pytest.mark.parametrize("swap", [False, True], ids=["copy", "swap"])
@pytest.mark.parametrize(("reach", "shape"), [(1, (9, 14)), (2, (15, 11)), (4, (30, 26))], ids=str)
def test_glass_displaces_as_the_sequential_loop(reach, shape, swap):
    drawn = torch.rand(3, 2, *shape)
    source = torch.arange(math.prod(shape)).repeat(3, 1)
    glass.displace(source, shape, reach, drawn, swap)
    for image, numbers in zip(source, drawn, strict=True):
        expected = np.arange(math.prod(shape)).reshape(shape)
        slow.sequential_pass(expected, np.floor(numbers.numpy() * 2 * reach).astype(int) - reach, reach, swap)
        assert image.view(shape).tolist() == expected.tolist()


def test_a_swap_loses_no_pixel_and_a_copy_does():
    x = torch.rand(1, 1, 24, 24)
    drawn = lambda swap: run(glass.GlassBlur(1, swap=swap), x).unique().numel()  # noqa: E731
    assert drawn(True) == 24 * 24 > drawn(False)


@pytest.mark.parametrize("decay", [1.4, 3])
def test_plasma_is_the_diamond_square_of_its_points(decay):
    """Point by point: every point is the mean of four neighbours on the torus, and its noise."""
    x = torch.zeros(2, 1, 11, 16, dtype=torch.float64)
    made = plasma(x, decay, ImageGenerator(1, [4, 9]))
    noise = 2 * ImageGenerator(1, [4, 9]).block("random", (2, 16, 16)).double().numpy() - 1
    for cloud, numbers in zip(made, noise, strict=True):
        np.testing.assert_allclose(cloud[0], pointwise_plasma(numbers, decay)[:11], rtol=0, atol=1e-12)


def pointwise_plasma(noise: np.ndarray, decay: float) -> np.ndarray:
    side, cloud, step, amplitude = len(noise), np.zeros_like(noise), len(noise), 1.0
    while step >= 2:
        half = step // 2
        points = [(i, j) for i in range(half, side, step) for j in range(half, side, step)]
        points += [(i, j) for i in range(0, side, step) for j in range(half, side, step)]
        points += [(i, j) for i in range(half, side, step) for j in range(0, side, step)]
        for i, j in points:
            centre = i % step and j % step
            around = [(a, b) for a in (-half, half) for b in (-half, half)]
            around = around if centre else [(-half, 0), (half, 0), (0, -half), (0, half)]
            mean = sum(cloud[(i + a) % side, (j + b) % side] for a, b in around) / 4
            cloud[i, j] = mean + amplitude * noise[i, j]
        step, amplitude = half, amplitude / decay**2
    return (cloud - cloud.min()) / np.ptp(cloud)


def test_motion_blur_is_the_line_of_each_image():
    x, degrees = pictures(6, 20, 33), torch.tensor([0.0, 12.3, -45, 90, -101.5, 179])
    made = motion.motion_blurred(x, 7, 3.0, degrees)
    for image, blurred, angle in zip(x, made, degrees.tolist(), strict=True):
        expected = slow.line_blur(image.movedim(0, 2).double().numpy(), 7, 3.0, angle)
        np.testing.assert_allclose(blurred.movedim(0, 2), expected, rtol=0, atol=1e-6)


def test_motion_blur_looks_right_at_0_and_up_at_minus_90_degrees():
    point = torch.zeros(2, 1, 15, 15)
    point[:, :, 7, 7] = 1
    right, up = motion.motion_blurred(point, 2, 1.0, torch.tensor([0.0, -90.0]))[:, 0]
    assert right.nonzero().tolist() == [[7, column] for column in range(3, 8)]
    assert up.nonzero().tolist() == [[row, 7] for row in range(7, 12)]


@pytest.mark.parametrize("factor", [1, 1.01, 1.12, 1.25, 2.25, 4])
def test_centre_zoom_is_scipys(factor):
    x = pictures(2, 40, 27)
    expected = [slow.clipped_zoom(image.movedim(0, 2).double().numpy(), factor) for image in x]
    np.testing.assert_allclose(filters.centre_zoom(x, factor).movedim(1, 3), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("side", [3, 5, 9])
def test_both_ways_of_correlating_are_scipys(side):
    """An asymmetric kernel, as wide as the image and wider; 9 x 9 taps are many enough for Fourier."""
    x, kernel = torch.rand(2, 1, 6, 7, dtype=torch.float64), np.random.default_rng(0).random((side, side))
    made = filters.correlated(x, kernel)
    for image, result in zip(x, made, strict=True):
        np.testing.assert_allclose(result[0], ndimage.correlate(image[0].numpy(), kernel, mode="mirror"), atol=1e-12)


def drops(count: int = 4) -> torch.Tensor:
    """Layers of grey levels with drops, and one without."""
    rng = np.random.default_rng(3)
    layers = [ndimage.gaussian_filter(rng.normal(0.65, 0.3, (30, 37)), 1, mode="nearest") for _ in range(count)]
    levels = np.floor(255 * np.where(np.array(layers) < 0.69, 0, layers)).clip(0, 255)
    return torch.from_numpy(np.concatenate([levels, np.zeros((1, 30, 37))]))


def test_edges_are_cannys():
    for levels, found in zip(drops(), edges(drops(), 50, 150), strict=True):
        assert np.array_equal(found, slow.canny(levels.numpy(), 50, 150))
    assert edges(drops(), 50, 150)[:-1].flatten(1).any(1).all()


def test_weak_edges_hold_on_to_strong_ones():
    """A ramp that grows along a line: weak where it is low, an edge all the same because it ends in a strong one."""
    levels = torch.zeros(1, 9, 24)
    levels[:, 5:] = torch.linspace(15, 120, 24)
    connected = edges(levels, 50, 150)[0].any(0)
    assert connected.all()
    assert not edges(levels[:, :, :4], 50, 150).any()


def test_distances_are_euclidean_up_to_the_most():
    points = torch.rand(3, 40, 31) < torch.tensor([0.01, 0.2, 0.0]).view(3, 1, 1)
    made = distance(points, 20)
    for these, result in zip(points[:2], made, strict=False):
        expected = ndimage.distance_transform_edt(~these.numpy()).clip(0, 20)
        np.testing.assert_allclose(result, expected, rtol=1e-6)
    assert made[2].eq(20).all()


def test_shading_is_the_reference_s_and_nothing_without_drops():
    for levels, shade in zip(drops(), spatter.shading(drops()), strict=True):
        np.testing.assert_allclose(shade, slow.relief(levels.numpy()), rtol=0, atol=1e-9)
    assert spatter.water(drops()).amax((1, 2)).tolist() == [1, 1, 1, 1, 0]


@pytest.mark.parametrize("mirror", ["pixels", "edges"])
def test_sampling_mirrors_as_scipy_does(mirror):
    x, points = pictures(2, 12, 17).double(), torch.rand(2, 12, 17, 2, dtype=torch.float64) * 60 - 20
    made = elastic.sampled(x, points, mirror)
    for image, at, result in zip(x, points.numpy(), made, strict=True):
        mode = {"pixels": "mirror", "edges": "reflect"}[mirror]
        expected = slow.warped(image.movedim(0, 2).numpy(), at[..., 1], at[..., 0], mode)
        np.testing.assert_allclose(result.movedim(0, 2), expected, rtol=0, atol=1e-9)


def test_an_affine_map_moves_its_three_corners():
    """The value at a moved corner comes from where the corner was."""
    x, moves = torch.zeros(1, 1, 31, 40, dtype=torch.float64), torch.tensor([[[2.0, -1], [0, 3], [-4, 1]]]).double()
    points = elastic.affine_points(x, moves)[0]
    for corner, (right, down) in zip([(30, 25), (30, 5), (10, 5)], moves[0].int().tolist(), strict=True):
        assert points[corner[1] + down, corner[0] + right].tolist() == pytest.approx(corner)


def test_shot_noise_has_the_variance_of_counted_light():
    """Before the clip var(x' | x) = x / c: in the middle of the range. 96,000 values: 1 % is two standard errors."""
    x = torch.full((500, 3, 8, 8), 0.5)
    change = run(ShotNoise(3), x) - x
    assert change.var().item() == pytest.approx(0.5 / 100, rel=0.02)
    assert ((run(ShotNoise(3), x) * 100).frac() % 1).abs().lt(1e-4).float().mean() > 0.9


def test_impulse_noise_replaces_its_share_by_as_much_salt_as_pepper():
    """27 % of 96,000 values: four standard errors are 0.6 %."""
    changed = run(ImpulseNoise(5, constants="imagenet"), torch.full((500, 3, 8, 8), 0.5))
    for value in (0, 1):
        assert changed.eq(value).float().mean().item() == pytest.approx(0.135, abs=0.005)


def test_contrast_leaves_its_share_of_the_deviation():
    x = pictures(4, 16, 16)
    deviation = lambda images: images - images.mean((2, 3), keepdim=True)  # noqa: E731
    torch.testing.assert_close(deviation(run(Contrast(5), x)), 0.15 * deviation(x), rtol=0, atol=1e-6)


def test_fog_is_low_frequencies_and_noise_is_white():
    """Of the power of the change, a disk of 1/8 of the sampling rate holds 4.9 % of all frequencies."""
    x = torch.full((100, 3, 32, 32), 0.5)
    f = torch.hypot(torch.fft.fftfreq(32)[:, None], torch.fft.fftfreq(32))
    power = {name: torch.fft.fft2(run(p, x) - x).abs().square().mean((0, 1)) for name, p in
             {"fog": Fog(3), "noise": AdditiveGaussianNoise(3)}.items()}  # fmt: skip
    share = {name: (p[f < 1 / 8].sum() / p.sum()).item() for name, p in power.items()}
    assert share["fog"] > 0.8
    assert share["noise"] == pytest.approx((f < 1 / 8).float().mean().item(), rel=0.03)


def test_jpeg_rounds_its_input_to_the_nearest_of_8_bits():
    x = pictures(2, 16, 16).clamp(1 / 255, 254 / 255)
    for less in (-0.4, 0.4):
        assert torch.equal(run(JPEGCompression(2), x + less / 255), run(JPEGCompression(2), x))


def test_saturate_tints_grey_red_where_it_adds_saturation():
    grey = torch.full((1, 3, 4, 4), 0.5)
    assert torch.equal(run(Saturate(3), grey), grey)
    assert run(Saturate(5), grey)[0, :, 0, 0].tolist() == pytest.approx([0.5, 0.4, 0.4])


def test_frost_without_photographs_has_their_statistics():
    """Of 3,000 textures: mean colour, deviation inside and between images, and the power law of one field."""
    textures = frost.field_of(torch.zeros(3000, 3, 32, 32), 0.8, ImageGenerator(0, range(3000))).double()
    pictures_ = np.array(frost.PICTURES)  # (picture, mean or inside or between, channel)
    means = textures.mean((2, 3)).numpy()
    np.testing.assert_allclose(means.mean(0), pictures_[:, 0].mean(0), atol=0.015)
    np.testing.assert_allclose(textures.var((2, 3)).mean(0), (pictures_[:, 1] ** 2).mean(0), rtol=0.05)
    between = pictures_[:, 0].var(0) + (pictures_[:, 2] ** 2).mean(0)
    np.testing.assert_allclose(means.var(0), between, rtol=0.08)
    power = torch.fft.fft2(textures[:, 0] - textures[:, 0].mean((1, 2), keepdim=True)).abs().square().mean(0)
    slope = np.polyfit(np.log(np.arange(1, 16)), np.log(power[0, 1:16].numpy()), 1)[0]
    assert slope == pytest.approx(-0.8, abs=0.05)


@pytest.fixture
def photographs(tmp_path):
    """Two photographs of 60 x 80 pixels, plain and of known colours."""
    for name, colour in (("frost1.png", (10, 20, 30)), ("frost2.jpg", (200, 200, 200))):
        Image.new("RGB", (80, 60), colour).save(tmp_path / name)
    return tmp_path


def test_frost_from_photographs_adds_one_of_them(photographs):
    """Severity 3 of large images: 0.7 x + 0.7 frost. The second photograph is JPEG, but plain: exact."""
    x = torch.full((30, 3, 20, 30), 0.2)
    changed = run(Frost(3, textures=str(photographs), constants="imagenet"), x)
    expected = [[0.14 + 0.7 * c / 255 for c in colour] for colour in ((10, 20, 30), (200, 200, 200))]
    found = {tuple(round(v, 4) for v in image[:, 0, 0].tolist()) for image in changed}
    assert found == {tuple(round(v, 4) for v in colour) for colour in expected}
    assert changed.flatten(2).std(2).max() < 1e-6


def test_crops_come_from_anywhere_in_a_photograph(tmp_path):
    ramp = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    Image.fromarray(np.stack([ramp, ramp.T, 0 * ramp], 2)).save(tmp_path / "ramp.png")
    (picture,) = frost.photographs(str(tmp_path), 1.0, (32, 32))
    corners = 255 * frost.crops(torch.zeros(200, 3, 32, 32), [picture], ImageGenerator(0, range(200)))[:, :2, 0, 0]
    assert corners.amin(0).max() < 10 and corners.amax(0).min() > 155


@pytest.mark.parametrize(("side", "scaled"), [(32, (40, 60)), (50, (51, 76)), (224, (225, 338))])
def test_photographs_are_scaled_by_a_fifth_or_to_cover_the_image(tmp_path, side, scaled):
    Image.new("RGB", (300, 200)).save(tmp_path / "a.png")
    (picture,) = frost.photographs(str(tmp_path), 0.2, (side, side))
    assert picture.shape == (3, *scaled)


def test_missing_photographs_say_where_and_what_to_do(tmp_path):
    x = torch.zeros(1, 3, 8, 8)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(MissingData, match=rf"no photographs .* in {folder}.*frost1.png to frost5.jpg.*procedural"):
            run(Frost(1, textures=str(folder)), x)
    with pytest.raises(NetprobeError, match=r"Frost.textures must be 'procedural', 'imagecorruptions'"):
        Frost(1, textures="")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(frost.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingData, match="package imagecorruptions is not installed: pip install imagecorruptions"):
        run(Frost(1, textures="imagecorruptions"), torch.zeros(1, 3, 8, 8))


def test_the_package_s_first_five_photographs_are_the_benchmark_s(monkeypatch, tmp_path):
    names = [*(f"frost{k}.png" for k in (1, 2, 3)), *(f"frost{k}.jpg" for k in (4, 5, 6))]
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr(frost, "_package_folder", lambda: tmp_path)
    assert [file.name for file in frost.files("imagecorruptions")] == names[:5]
    assert [file.name for file in frost.files(str(tmp_path))] == names
