"""Mel-frequency cepstral coefficients of waveforms, as layers: attacks differentiate through them.

Definitions and defaults are those of torchaudio (`transforms.Resample`, `transforms.MFCC` with `log_mels=True`), which
is not needed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad

from netprobe.errors import NetprobeError
from netprobe.models.mlp import MLP, widths

ZEROS, ROLLOFF = 6, 0.99
"""Zero crossings of the resampling filter on either side, and its cut-off over the lower Nyquist frequency."""
FLOOR = 1e-6
"""Added to every mel energy before its logarithm."""
AT_ONCE = 4
"""Waveforms at a time on a CPU, so that their spectra stay in its cache: half the time of 64 at once."""
PUBLISHED = {"rate": 8000, "coefficients": 16, "n_fft": 512, "window": 64, "hop": 32, "mean": -0.9672, "std": 9.2037}


class Constants(nn.Module, ABC):
    """A layer of fixed numbers, told by its settings: no part of checkpoints, and in float32 at least."""

    @abstractmethod
    def made(self) -> dict[str, Tensor]:
        """The numbers by name, in float64."""

    def keep(self) -> None:
        """Make them buffers; once the settings are known."""
        for name, values in self.made().items():
            self.register_buffer(name, values.float(), persistent=False)

    def _apply(self, fn: Callable, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for name, values in self.made().items():  # anew: those there were rounded to float32 once, or to less now
            there = getattr(self, name)
            setattr(self, name, values.to(there.device, torch.promote_types(there.dtype, torch.float32)))
        return self


class Resample(Constants):
    """Waveforms (N, L) at `rate` Hz to (N, ceil(L new / rate)) at `new` Hz, by a windowed sinc:

        y_j = sum_i x_i h(j / new - i / rate),   h(t) = f / rate sinc(f t) cos^2(pi f t / 12) for |f t| <= 6

    with f = 0.99 min(rate, new), sinc(t) = sin(pi t) / (pi t), and zeros beyond the ends.
    """

    kernel: Tensor

    def __init__(self, rate: int, new: int) -> None:
        super().__init__()
        self.rate, self.new = rate, new
        common = math.gcd(rate, new)
        self.step, self.phases = rate // common, new // common
        self.reach = math.ceil(ZEROS * self.step / (ROLLOFF * min(self.step, self.phases)))
        self.keep()

    def made(self) -> dict[str, Tensor]:
        return {"kernel": _sinc(self.step, self.phases, self.reach)}

    def forward(self, x: Tensor) -> Tensor:
        wide = pad(x, (self.reach, self.reach + self.step)).to(torch.promote_types(x.dtype, torch.float32))
        with torch.autocast(x.device.type, enabled=False):
            found = conv1d(wide[:, None], self.kernel[:, None].to(wide.dtype), stride=self.step)
        return found.transpose(1, 2).flatten(1)[:, : math.ceil(self.phases * x.shape[-1] / self.step)].to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.rate} Hz to {self.new} Hz"


def _sinc(rate: int, new: int, reach: int) -> Tensor:
    """The filter (phase, tap): one phase for each of the `new` outputs that `rate` inputs give."""
    taps = torch.arange(-reach, reach + rate, dtype=torch.float64) / rate
    at = ROLLOFF * min(rate, new) * (taps - torch.arange(new, dtype=torch.float64)[:, None] / new)
    at = at.clamp(-ZEROS, ZEROS)
    window = torch.cos(at * math.pi / ZEROS / 2).square()
    return torch.sinc(at) * window * ROLLOFF * min(rate, new) / rate


class MFCC(Constants):
    """Waveforms (N, L) in [-1, 1] to (N, coefficients, 1 + L // hop):

        S = |STFT|^2    frames of `n_fft` samples every `hop`, under a Hann window of `window` samples in their middle;
                        the waveform reflected at its ends, so that frame t is centred on sample t hop
        M = F S         F triangles, evenly spaced in mel = 2595 log10(1 + f / 700) from 0 to half the rate
        out = (D log(M + 1e-6) - mean) / std,   D the orthonormal DCT-II, its first rows

    A triangle that lies between two frequencies is empty, and its logarithm always log 1e-6: with 400 samples at 16 kHz
    some are, as in torchaudio, which warns of it; of the 128 with 512 samples at 8 kHz none is.
    """

    hann: Tensor
    filters: Tensor
    cosines: Tensor

    def __init__(
        self,
        *,
        rate: int = 16_000,
        coefficients: int = 40,
        n_fft: int = 400,
        window: int | None = None,
        hop: int | None = None,
        bands: int = 128,
        mean: float = 0.0,
        std: float = 1.0,
    ) -> None:
        if coefficients > bands:
            raise NetprobeError(f"coefficients={coefficients} of {bands} bands: choose {bands} or less")
        super().__init__()
        window = window or n_fft
        self.rate, self.n_fft, self.window, self.hop = rate, n_fft, window, hop or window // 2
        self.coefficients, self.bands, self.mean, self.std = coefficients, bands, mean, std
        self.keep()

    def made(self) -> dict[str, Tensor]:
        return {
            "hann": torch.hann_window(self.window, dtype=torch.float64),
            "filters": mel_filters(self.rate, self.n_fft, self.bands),
            "cosines": cosines(self.coefficients, self.bands),
        }

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        parts = wide.split(AT_ONCE if x.device.type == "cpu" else max(len(wide), 1))
        with torch.autocast(x.device.type, enabled=False):
            out = torch.cat([self._cepstrum(part) for part in parts])
        return ((out - self.mean) / self.std).to(x.dtype)

    def _cepstrum(self, x: Tensor) -> Tensor:
        """Of waveforms, not yet standardised."""
        around = pad(x, (self.n_fft // 2, self.n_fft // 2), mode="reflect")[:, (self.n_fft - self.window) // 2 :]
        frames = around.unfold(-1, self.window, self.hop)[:, : self.frames(x.shape[-1])]
        spectra = torch.fft.rfft(frames * self.hann.to(x.dtype), self.n_fft)  # but for a phase: zeros follow the window
        power = spectra.real.square() + spectra.imag.square()
        mel = power @ self.filters.to(x.dtype).T
        return ((mel + FLOOR).log() @ self.cosines.to(x.dtype).T).transpose(1, 2)

    def frames(self, samples: int) -> int:
        """How many frames so many samples have."""
        return 1 + samples // self.hop

    def extra_repr(self) -> str:
        return f"{self.rate} Hz, {self.coefficients} of {self.bands} bands, n_fft={self.n_fft}, hop={self.hop}"


def mel_filters(rate: int, n_fft: int, bands: int) -> Tensor:
    """F (band, frequency): triangles of height 1 between neighbouring points of the mel scale, not normalised."""
    mel = torch.linspace(0, 2595 * math.log10(1 + (rate // 2) / 700), bands + 2, dtype=torch.float64)
    corners = 700 * (10 ** (mel / 2595) - 1)
    frequencies = torch.linspace(0, rate // 2, n_fft // 2 + 1, dtype=torch.float64)
    rising = (frequencies - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - frequencies) / (corners[2:] - corners[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def cosines(coefficients: int, bands: int) -> Tensor:
    """D (coefficient, band): rows k of sqrt(2 / N) cos(pi / N (n + 1/2) k), the first over sqrt(2)."""
    n, k = torch.arange(bands, dtype=torch.float64), torch.arange(coefficients, dtype=torch.float64)[:, None]
    rows = math.sqrt(2 / bands) * torch.cos(math.pi / bands * (n + 0.5) * k)
    rows[0] /= math.sqrt(2)
    return rows


class Words(nn.Sequential):
    """Layers resample (unless the waveforms are at 8 kHz), mfcc, flatten, and those of `MLP`."""

    def __init__(self, rate: int, samples: int, hidden: Sequence[int], num_classes: int, dropout: float) -> None:
        mfcc = MFCC(**PUBLISHED)
        length = math.ceil(samples * mfcc.rate / rate)
        if length <= mfcc.n_fft // 2:
            raise NetprobeError(
                f"{samples} samples at {rate} Hz are too short: give more than {mfcc.n_fft // 2} at 8 kHz"
            )
        perceptron = MLP(mfcc.coefficients * mfcc.frames(length), hidden, num_classes, dropout)
        first = {} if rate == mfcc.rate else {"resample": Resample(rate, mfcc.rate)}
        super().__init__(OrderedDict(**first, mfcc=mfcc, **dict(perceptron.named_children())))


def words_mlp(
    num_classes: int = 10,
    rate: int = 16_000,
    samples: int = 16_000,
    hidden: Sequence[int] | int | str = (2048,),
    dropout: float = 0.0,
) -> Words:
    """A perceptron on the cepstrum of a spoken word: waveforms (N, samples) in [-1, 1], `rate` Hz.

    8,247,306 parameters as it stands; on one second 251 frames of 16 coefficients, 4016 values. `hidden` as for `mlp`.

    The front end is part of the network, so that attacks differentiate through it and eps is in units of the waveform.
    The networks for words of Shah and Raj, arXiv 2308.03956: hidden=2048 is what the self-consistent layer is put
    into, hidden=2048,2048,2048,2048 with dropout=0.2 the MLP beside it.
    """
    return Words(rate, samples, widths(hidden), num_classes, dropout)
