"""Folders of spoken words: wav files to equally long waveforms."""

from __future__ import annotations

import logging
import struct
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from netprobe.data.checks import whole_number
from netprobe.data.folders import Listing, list_folder
from netprobe.data.source import Source
from netprobe.errors import MissingData, NetprobeError

logger = logging.getLogger(__name__)

SUFFIXES = (".wav",)
DAMAGE = (OSError, ValueError, EOFError, ArithmeticError, AttributeError, LookupError, struct.error)
INT16_SCALE = 32768.0


def open_words(
    folder: Path,
    split: str | None,
    *,
    length: int | None = None,
    resample: int | None = None,
    classes: Iterable[str] | None = None,
    name: str | None = None,
) -> Source:
    """A folder of wav files, one folder a word.

    Parameters
    ----------
    length : samples of every waveform, after resampling. Longer ones lose their end, shorter ones get zeros
        at their end. Needed only when the recordings differ in length.
    resample : sample rate in Hz, reached by `scipy.signal.resample_poly`. Needed only when the rates differ.
        Where its filter overshoots a full-scale signal the value is set to ±1, and a warning is logged.
    classes : the class folders in index order; default sorted by name.
    name : of the set; default the folder's.
    """
    return word_source(list_folder(folder, split, SUFFIXES, classes, name), length=length, resample=resample)


def word_source(listing: Listing, *, length: int | None = None, resample: int | None = None) -> Source:
    """The recordings of a listing, read when they are asked for."""
    length = length if length is None else whole_number(length, "length")
    resample = resample if resample is None else whole_number(resample, "resample")

    def read(index: np.ndarray) -> Tensor:
        return read_words([listing.files[i] for i in index], length, resample)

    def rate(index: np.ndarray) -> int:
        return resample or read_wav(listing.files[index[0]])[0]

    return Source(listing.name, listing.split, listing.labels, listing.classes, read, rate)


def read_words(files: Sequence[Path], length: int | None = None, resample: int | None = None) -> Tensor:
    """These recordings as (N, L): int16 where every one is stored so, else float32 in [-1, 1]."""
    read = [read_wav(f) for f in tqdm(files, "recordings", delay=2, leave=False)]
    rates, waves = [rate for rate, _ in read], [wave for _, wave in read]
    if resample is None:
        _check_rates(rates, files)
    else:
        waves = [resampled(wave, rate, resample) for rate, wave in zip(rates, waves, strict=True)]
    return torch.from_numpy(_stacked(waves, length or _common_length(waves, files)))


def read_wav(file: Path) -> tuple[int, np.ndarray]:
    """Sample rate in Hz and one channel, the mean of all: (L,) int16, or float32 in [-1, 1].

    8 and 16 bit integers become int16 (value / 32768 in [-1, 1)); wider integers are divided by their full
    scale.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # unknown extra chunks are harmless,
            warnings.filterwarnings("error", "Reached EOF prematurely")  # missing samples are not
            rate, wave = wavfile.read(file)
    except (*DAMAGE, wavfile.WavFileWarning) as error:
        raise MissingData(f"{file} is damaged ({error}): fetch or copy it again, or remove it") from error
    if not len(wave):
        raise MissingData(f"{file} is damaged (no samples): fetch or copy it again, or remove it")
    return rate, _one_channel(wave, file)


def resampled(wave: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """(L,) to (ceil(L new_rate / rate),), float32 in [-1, 1]; unchanged where the rates agree."""
    from scipy.signal import resample_poly

    if rate == new_rate:
        return wave
    out = resample_poly(_to_float(wave).astype(np.float64), new_rate, rate)
    over = int((np.abs(out) > 1).sum())
    if over:
        logger.warning("resampling overshot full scale in %d of %d samples, set to ±1", over, len(out))
    return out.clip(-1, 1).astype(np.float32)


def _one_channel(wave: np.ndarray, file: Path) -> np.ndarray:
    if wave.dtype == np.uint8:  # 8 bit wav is unsigned, silence at 128
        wave = (wave.astype(np.int16) - 128) * 256
    if wave.ndim == 1 and wave.dtype == np.int16:
        return wave
    wave = _to_float(wave)
    peak = np.abs(wave).max()
    if not peak <= 1:
        raise NetprobeError(f"{file} has samples outside [-1, 1] (peak {peak:.4g}): divide them by their peak first")
    return (wave if wave.ndim == 1 else wave.mean(axis=1, dtype=np.float64)).astype(np.float32)


def _to_float(wave: np.ndarray) -> np.ndarray:
    """Integers over their full scale; float64 where float32 could not hold them."""
    if wave.dtype == np.int16:
        return wave.astype(np.float32) / np.float32(INT16_SCALE)
    return wave / -float(np.iinfo(wave.dtype).min) if wave.dtype.kind == "i" else wave


def _check_rates(rates: Sequence[int], files: Sequence[Path]) -> None:
    counts = Counter(rates)
    if len(counts) > 1:
        found = ", ".join(f"{rate} Hz ({n}, e.g. {files[rates.index(rate)]})" for rate, n in counts.most_common())
        raise NetprobeError(f"recordings differ in sample rate: {found}. Pass resample=, e.g. resample={min(counts)}")


def _common_length(waves: Sequence[np.ndarray], files: Sequence[Path]) -> int:
    lengths = [len(wave) for wave in waves]
    short, long = min(lengths), max(lengths)
    if short < long:
        raise NetprobeError(
            f"recordings differ in length: {files[lengths.index(short)]} has {short} samples, "
            f"{files[lengths.index(long)]} {long}. Pass length=, e.g. length={long} to cut none"
        )
    return short


def _stacked(waves: Sequence[np.ndarray], length: int) -> np.ndarray:
    """(N, length); the end is cut off or filled with zeros."""
    whole = all(wave.dtype == np.int16 for wave in waves)
    out = np.zeros((len(waves), length), np.int16 if whole else np.float32)
    for row, wave in zip(out, waves, strict=True):
        kept = wave[:length] if whole else _to_float(wave[:length])
        row[: len(kept)] = kept
    return out
