"""The front end for words against its definition in numpy: slow sums over samples, bands and cosines."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import fft

from netprobe.errors import NetprobeError
from netprobe.models.mfcc import MFCC, PUBLISHED, Resample, mel_filters, words_mlp

TIGHT = {"rtol": 1e-9, "atol": 1e-10}  # float64; logarithms of small energies cost some digits


def waves(rows, samples, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(rows, samples, dtype=torch.float64, generator=generator)


def resampled(x, rate, new):
    """Every output as the sum over all inputs of the filter at their distance, in seconds times the lower rate."""
    cutoff, out = 0.99 * min(rate, new), np.zeros(math.ceil(len(x) * new / rate))
    for j in range(len(out)):
        at = cutoff * (j / new - np.arange(len(x)) / rate)
        taps = np.where(np.abs(at) < 6, np.sinc(at) * np.cos(np.pi * at / 12) ** 2, 0) * cutoff / rate
        out[j] = taps @ x
    return out


@pytest.mark.parametrize(("rate", "new"), [(16_000, 8_000), (8_000, 16_000), (44_100, 8_000), (8_000, 8_000)])
@pytest.mark.parametrize("samples", [200, 333])
def test_resampling_is_a_windowed_sinc(rate, new, samples):
    x = waves(2, samples)
    found = Resample(rate, new).double()(x)
    expected = np.stack([resampled(row, rate, new) for row in x.numpy()])
    assert found.shape == expected.shape == (2, math.ceil(samples * new / rate))
    np.testing.assert_allclose(found.numpy(), expected, **TIGHT)


def test_a_low_tone_survives_resampling_and_a_high_one_does_not():
    t = torch.arange(16_000, dtype=torch.float64) / 16_000
    tones = torch.stack([torch.sin(2 * math.pi * hertz * t) for hertz in (440, 7000)])
    low, high = Resample(16_000, 8_000).double()(tones)[:, 100:-100]
    expected = torch.sin(2 * math.pi * 440 * torch.arange(8_000, dtype=torch.float64) / 8_000)[100:-100]
    assert (low - expected).abs().max() < 0.01  # a filter of six zero crossings has ripples
    assert high.abs().max() < 0.01


def coefficients(x, *, rate, n_fft, window, hop, bands, count):
    """Of one waveform, (count, frame)."""
    padded = np.pad(x, n_fft // 2, mode="reflect")
    hann = np.zeros(n_fft)
    start = (n_fft - window) // 2
    hann[start : start + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frames = [padded[at : at + n_fft] * hann for at in range(0, len(padded) - n_fft + 1, hop)]
    power = np.abs(np.fft.rfft(np.stack(frames), axis=1)) ** 2
    hertz = np.arange(n_fft // 2 + 1) * rate / n_fft
    top = 2595 * math.log10(1 + rate / 2 / 700)
    corners = [700 * (10 ** (top * k / (bands + 1) / 2595) - 1) for k in range(bands + 2)]
    mel = np.zeros((len(frames), bands))
    for band, (left, middle, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        for place, f in enumerate(hertz):
            height = min((f - left) / (middle - left), (right - f) / (right - middle))
            mel[:, band] += max(height, 0) * power[:, place]
    return fft.dct(np.log(mel + 1e-6), type=2, norm="ortho", axis=1)[:, :count].T


SETTINGS = {
    "published": ({"rate": 8000, "n_fft": 512, "window": 64, "hop": 32, "bands": 128}, 16),
    "torchaudio's": ({"rate": 16_000, "n_fft": 400, "window": 400, "hop": 200, "bands": 128}, 40),
    "others": ({"rate": 12_000, "n_fft": 256, "window": 101, "hop": 50, "bands": 20}, 20),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_coefficients_are_those_of_the_definition(name):
    how, count = SETTINGS[name]
    layer, x = MFCC(coefficients=count, **how).double(), waves(2, 1500)
    expected = np.stack([coefficients(row, **how, count=count) for row in x.numpy()])
    np.testing.assert_allclose(layer(x).numpy(), expected, **TIGHT)
    assert layer(x).shape[-1] == layer.frames(1500)


def test_the_published_features_of_a_second():
    layer, x = MFCC(**PUBLISHED).double(), waves(2, 8000)
    raw = np.stack([coefficients(row, **SETTINGS["published"][0], count=16) for row in x.numpy()])
    assert layer(x).shape == (2, 16, 251)
    np.testing.assert_allclose(layer(x).numpy(), (raw + 0.9672) / 9.2037, **TIGHT)


def test_no_band_of_the_published_front_end_is_empty_and_empty_ones_do_no_harm():
    assert (mel_filters(8000, 512, 128).sum(1) > 0).all()
    assert (mel_filters(16_000, 400, 128).sum(1) == 0).any()
    silence = torch.zeros(1, 8000, requires_grad=True)
    found = MFCC()(silence)
    assert found.isfinite().all()
    found.sum().backward()
    assert silence.grad.isfinite().all()


def test_gradients_by_differences():
    layer = MFCC(rate=8000, coefficients=5, n_fft=32, window=16, hop=8, bands=8).double()
    assert torch.autograd.gradcheck(layer, waves(2, 60).requires_grad_())
    assert torch.autograd.gradcheck(Resample(16_000, 8_000).double(), waves(2, 60).requires_grad_())


def test_float32_is_close_to_float64_and_half_precision_is_not_computed_in():
    layer, x = MFCC(**PUBLISHED), waves(2, 8000)
    exact = copy.deepcopy(layer).double()(x)
    assert (layer(x.float()) - exact).abs().max() < 1e-4
    halved = copy.deepcopy(layer).bfloat16()
    assert torch.equal(halved.filters, layer.filters)
    assert torch.equal(halved(x.bfloat16()), layer(x.bfloat16().float()).bfloat16())
    back = copy.deepcopy(layer).bfloat16().double()
    torch.testing.assert_close(back(x), exact, **TIGHT)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x.float()), layer(x.float()))
        assert layer(x.float()).dtype == torch.float32


def test_what_settings_tell_is_not_saved():
    assert not MFCC(**PUBLISHED).state_dict()
    assert not Resample(16_000, 8_000).state_dict()
    assert torch.equal(pickle.loads(pickle.dumps(MFCC(**PUBLISHED))).filters, MFCC(**PUBLISHED).filters)


def test_the_network_for_words():
    model = words_mlp(hidden="20,30", dropout=0.1, num_classes=4)
    names = ["resample", "mfcc", "flatten", "linear1", "relu1", "dropout1", "linear2", "relu2", "dropout2", "linear"]
    assert [name for name, _ in model.named_children()] == names
    assert model.linear1.in_features == 4016
    assert model(torch.rand(2, 16_000)).shape == (2, 4)
    at_8_khz = words_mlp(rate=8000, samples=8000, hidden=20)
    assert not hasattr(at_8_khz, "resample")
    assert at_8_khz.linear1.in_features == 4016
    assert words_mlp(rate=16_000, samples=9001, hidden=20)(torch.rand(2, 9001)).shape == (2, 10)


def test_mistakes_are_named():
    with pytest.raises(NetprobeError, match="200 samples at 8000 Hz are too short: give more than 256"):
        words_mlp(rate=8000, samples=200)
    with pytest.raises(NetprobeError, match="coefficients=30 of 20 bands"):
        MFCC(coefficients=30, bands=20)
    with pytest.raises(NetprobeError, match="hidden='20,x' must be widths"):
        words_mlp(hidden="20,x")
