"""Batches of training data equal a slow reference, image by image, and what is drawn belongs to image and epoch."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from netprobe.data import Data
from netprobe.errors import NetprobeError
from netprobe.training.augmentation import CROP_FLIP, ORDER, _generator, crop_flips, order, padded
from netprobe.training.device_data import DeviceData


def images(dtype: torch.dtype = torch.uint8, n: int = 13, shape: tuple[int, ...] = (3, 6, 5)) -> Data:
    """Images whose every side has another length."""
    stored = torch.randint(256, (n, *shape), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    if dtype == torch.float32:
        stored = stored / 255
    return Data(stored, torch.arange(n) % 3, ("ant", "bee", "cow"), "toy")


def waves(n: int = 7) -> Data:
    return Data(torch.arange(n * 9, dtype=torch.int16).view(n, 9), torch.arange(n) % 2, ("no", "yes"), "words")


def slowly(data: Data, n: int, epoch: int, padding: int, mode: str, seed: int) -> Tensor:
    """One augmented image by torch's own padding, slices and flip."""
    _, height, width = data.shape
    drawn = crop_flips(len(data), padding, seed, epoch)
    torchs = {"zeros": "constant", "reflect": "reflect"}[mode]
    wide = torch.nn.functional.pad(data.inputs[n][None], [padding] * 4, mode=torchs)[0]
    top, left = int(drawn.top[n]), int(drawn.left[n])
    crop = wide[:, top : top + height, left : left + width]
    return crop.flip(2) if drawn.flip[n] else crop


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("padding", "mode"), [(1, "zeros"), (4, "zeros"), (4, "reflect")])
@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_equal_the_reference(dtype, channels, padding, mode, channels_last):
    data = images(dtype, shape=(channels, 6, 5))
    ours = DeviceData(
        data, augment="crop-flip", padding=padding, padding_mode=mode, seed=5, channels_last=channels_last
    )
    positions = torch.tensor([3, 12, 0, 3, 7, 1, 2])
    for epoch in (0, 1):
        x, y = ours.batch(positions, epoch)
        reference = torch.stack([slowly(data, int(n), epoch, padding, mode, seed=5) for n in positions])
        assert x.dtype == torch.float32 and torch.equal(x, reference)
        assert torch.equal(y, data.labels[positions])
        assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


@pytest.mark.parametrize("data", [images(), images(torch.float32), waves()], ids=["bytes", "floats", "waves"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_without_augmentation_batches_are_the_inputs(data, channels_last):
    positions = torch.tensor([2, 0, 5, 5])
    x, y = DeviceData(data, channels_last=channels_last).batch(positions, epoch=3)
    assert torch.equal(x, data.inputs[positions]) and torch.equal(y, data.labels[positions])
    if channels_last and data.kind == "image":
        assert x.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_batches_are_fresh(augment):
    data = images(torch.float32)
    ours = DeviceData(data, augment=augment, padding=2)
    before, labels = data.inputs, data.labels.clone()
    x, y = ours.batch(torch.arange(13), 0)
    first = x.clone()
    x.zero_(), y.zero_()
    assert torch.equal(ours.batch(torch.arange(13), 0)[0], first)
    assert torch.equal(data.inputs, before) and torch.equal(data.labels, labels)


def test_augmentation_belongs_to_image_and_epoch():
    data = images(n=40)
    whole = DeviceData(data, augment="crop-flip", seed=3).batch(torch.arange(40), epoch=2)[0]
    ours = DeviceData(data, augment="crop-flip", seed=3)
    ours.batch(torch.arange(5), epoch=9)  # whatever epochs were visited before
    shuffled = order(40, 0, 0)
    for part in shuffled.split(7):
        assert torch.equal(ours.batch(part, epoch=2)[0], whole[part])


@pytest.mark.parametrize("other", [{"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 3}, {"seed": 2, "epoch": 3}])
def test_other_seeds_and_epochs_draw_anew(other):
    one, two = crop_flips(1000, 4, seed=3, epoch=2), crop_flips(1000, 4, **other)
    # Of independent draws, a ninth of the corners and half of the flips agree, give or take five standard errors.
    assert abs((one.top == two.top).double().mean() - 1 / 9) < 0.05
    assert abs((one.flip == two.flip).double().mean() - 1 / 2) < 0.08
    assert not torch.equal(order(1000, 3, 2), order(1000, **other))


def test_draws_are_uniform_and_independent():
    drawn = crop_flips(90_000, padding=1, seed=0, epoch=0)
    cells = torch.bincount((drawn.top * 3 + drawn.left) * 2 + drawn.flip, minlength=18)
    assert len(cells) == 18  # three rows, three columns, two ways round
    assert stats.chisquare(cells.numpy()).pvalue > 1e-3  # fixed seed: passes for good or not at all


def test_the_order_is_a_permutation_unlike_the_augmentation():
    assert torch.equal(order(500, 1, 2).sort().values, torch.arange(500))
    assert torch.equal(order(500, 1, 2), order(500, 1, 2))
    turn = order(5000, 0, 0).argsort()  # when an image is visited
    assert abs(stats.spearmanr(turn, crop_flips(5000, 16, 0, 0).top).statistic) < 5 / 5000**0.5  # standard errors


def test_every_seed_epoch_and_purpose_has_a_stream_of_its_own():
    purposes = [(seed, epoch, stream) for seed in (0, 1, 2**40) for epoch in (0, 1) for stream in (ORDER, CROP_FLIP)]
    assert len({_generator(*purpose).initial_seed() for purpose in purposes}) == len(purposes)


def test_reflection_repeats_no_pixel_of_the_edge():
    row = padded(torch.tensor([[[[1, 2, 3], [4, 5, 6]]]], dtype=torch.uint8), 1, "reflect")
    assert row.tolist() == [[[[5, 4, 5, 6, 5], [2, 1, 2, 3, 2], [5, 4, 5, 6, 5], [2, 1, 2, 3, 2]]]]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (images(), {"augment": "crop_flip"}, "unknown augment 'crop_flip': did you mean 'crop-flip'"),
        (images(), {"padding_mode": "zero"}, "unknown padding_mode 'zero': did you mean 'zeros'"),
        (waves(), {"augment": "crop-flip"}, "is for images, and words holds waveforms: augment='none'"),
        (images(), {"augment": "crop-flip", "padding": 0}, "padding=0: .* 1 or more; or augment='none'"),
        (images(), {"augment": "crop-flip", "padding": 1.5}, "padding=1.5: .*whole number"),
        (
            images(),
            {"augment": "crop-flip", "padding": 5, "padding_mode": "reflect"},
            "padding=5: an image of 6×5 can be mirrored by at most 4 pixels; or padding_mode='zeros'",
        ),
    ],
)
def test_mistakes_are_named(data, options, message):
    with pytest.raises(NetprobeError, match=message):
        DeviceData(data, **options)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([0, 13], "must lie in 0..12, and go from 0 to 13"),
        ([-1, 2], "must lie in 0..12, and go from -1 to 2"),
        ([[0]], r"must be \(B,\) int64, not \(1, 1\)"),
        ([0.0], "of torch.float32"),
    ],
)
def test_positions_are_checked(positions, message):
    with pytest.raises(NetprobeError, match=message):
        DeviceData(images(), augment="crop-flip").batch(torch.tensor(positions), 0)


@pytest.mark.gpu
@pytest.mark.parametrize("augment", ["none", "crop-flip"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_gpu_gives_the_same_bits(augment, channels_last):
    data, positions = images(n=50), order(50, 0, 0)
    options = {"augment": augment, "seed": 2, "channels_last": channels_last}
    x, y = DeviceData(data, "cuda", **options).batch(positions.cuda(), 1)
    reference, labels = DeviceData(data, **options).batch(positions, 1)
    assert torch.equal(x.cpu(), reference) and torch.equal(y.cpu(), labels)
    assert x.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
