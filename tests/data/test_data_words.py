"""Folders of wav files: sample formats, lengths, rates."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from scipy.signal import resample_poly

from netprobe.data import load, stratified
from netprobe.errors import MissingData, NetprobeError

Write = Callable[..., np.ndarray]


@pytest.fixture
def words(tmp_path: Path, write_wav: Write) -> Path:
    """Two words, three recordings each, 40 samples at 8 kHz."""
    for k, word in enumerate(("yes", "no")):
        for i in range(3):
            write_wav(tmp_path / "words" / word / f"{i}.wav", seed=10 * k + i)
    return tmp_path / "words"


def test_words_are_waveforms_with_sorted_classes(words: Path) -> None:
    data = load(words)
    assert (data.kind, data.shape, data.classes, data.split) == ("waveform", (40,), ("no", "yes"), "all")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.sample_rate == 8000
    assert data.stored.dtype == torch.int16
    expected = np.stack([wavfile.read(words / w / f"{i}.wav")[1] for w in data.classes for i in range(3)])
    assert np.array_equal(data.inputs.numpy(), expected / np.float32(32768))


def test_limit_reads_a_balanced_part(words: Path) -> None:
    assert load(words, limit=4, seed=1).hash == load(words).take(4, seed=1).hash
    (words / "no" / "0.wav").write_bytes(b"")  # would be an error to read
    seeds = [seed for seed in range(9) if 0 not in stratified([0, 0, 0, 1, 1, 1], 2, seed)]
    assert 0 < len(seeds) < 9
    assert all(len(load(words, limit=2, seed=seed)) == 2 for seed in seeds)


def test_the_rate_is_that_of_the_recordings_kept(words: Path, write_wav: Write) -> None:
    write_wav(words / "no" / "0.wav", rate=16000)
    rates = {load(words, limit=1, seed=seed).sample_rate for seed in range(40)}
    assert rates == {8000, 16000}


# Full scale as the format has it; float32 holds 24 bits, so 32 bit integers round by up to 2^-25 relative.
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", lambda wave: (wave.astype(float) - 128) / 128),
        ("int16", lambda wave: wave / 2.0**15),
        ("int32", lambda wave: wave / 2.0**31),
        ("float32", lambda wave: wave.astype(float)),
        ("float64", lambda wave: wave),
    ],
)
def test_every_sample_format_has_its_full_scale(tmp_path: Path, write_wav: Write, dtype: str, value: Callable) -> None:
    wave = write_wav(tmp_path / "set" / "a" / "0.wav", dtype=dtype, length=1000)
    np.testing.assert_allclose(load(tmp_path / "set").inputs[0].numpy(), value(wave), rtol=2.0**-24, atol=0)


def test_formats_mix(tmp_path: Path, write_wav: Write) -> None:
    short = write_wav(tmp_path / "set" / "a" / "0.wav")
    write_wav(tmp_path / "set" / "a" / "1.wav", dtype="float32")
    data = load(tmp_path / "set")
    assert data.stored.dtype == torch.float32
    assert np.array_equal(data.inputs[0].numpy(), short / np.float32(32768))


def test_stereo_is_averaged(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    stereo = np.array([[32767, 32767], [-32768, 32767], [0, 2], [-32768, -32768]], np.int16)
    wavfile.write(tmp_path / "set" / "a" / "0.wav", 8000, stereo)
    expected = [32767 / 32768, -0.5 / 32768, 1 / 32768, -1]
    assert load(tmp_path / "set").inputs[0].tolist() == expected


def test_mixed_lengths_need_a_length(words: Path, write_wav: Write) -> None:
    long = write_wav(words / "yes" / "3.wav", length=55, seed=7)
    with pytest.raises(NetprobeError, match=r"has 40 samples, .*3\.wav 55\. Pass length=, e\.g\. length=55"):
        load(words)
    padded, cut = load(words, length=60).stored, load(words, length=30).stored
    assert np.array_equal(padded[-1, :55], long)
    assert not padded[-1, 55:].any()
    assert not padded[0, 40:].any()
    assert np.array_equal(cut[-1], long[:30])


def test_mixed_rates_are_named(words: Path, write_wav: Write) -> None:
    write_wav(words / "yes" / "3.wav", rate=16000, length=80)
    with pytest.raises(NetprobeError, match=r"8000 Hz \(6, e\.g\. .*0\.wav\), 16000 Hz \(1, e\.g\. .*3\.wav\)"):
        load(words)


def test_resampling_brings_rates_together(words: Path) -> None:
    time = np.arange(800) / 16000
    tone = (0.5 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)
    wavfile.write(words / "yes" / "3.wav", 16000, tone)
    data = load(words, resample=8000, length=400)
    assert data.sample_rate == 8000
    np.testing.assert_allclose(data.inputs[-1].numpy(), resample_poly(tone.astype(float), 1, 2), atol=2.0**-24)
    # A tone far below both Nyquist rates survives, away from the ends where the filter sees zeros.
    np.testing.assert_allclose(data.inputs[-1, 30:-30].numpy(), tone[::2][30:-30], atol=2e-3)


def test_overshoot_of_resampling_is_cut_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    square = np.tile(np.repeat(np.array([32767, -32768], np.int16), 20), 10)
    wavfile.write(tmp_path / "set" / "a" / "0.wav", 8000, square)
    with caplog.at_level(logging.WARNING):
        data = load(tmp_path / "set", resample=16000)
    assert data.inputs.abs().max() == 1
    assert "overshot full scale" in caplog.text


def test_floats_beyond_full_scale_are_errors(tmp_path: Path) -> None:
    (tmp_path / "set" / "a").mkdir(parents=True)
    wavfile.write(tmp_path / "set" / "a" / "0.wav", 8000, np.array([0, 1.5], np.float32))
    with pytest.raises(NetprobeError, match=r"0\.wav has samples outside \[-1, 1\] \(peak 1\.5\)"):
        load(tmp_path / "set")


@pytest.mark.parametrize("kept", [0, 10, 30, 44, 60])
def test_a_truncated_recording_is_named(words: Path, kept: int) -> None:
    file = words / "no" / "1.wav"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(MissingData, match=r"1\.wav is damaged"):
        load(words)


def test_unknown_chunks_are_harmless(words: Path) -> None:
    expected = load(words).hash
    file = words / "no" / "1.wav"
    raw = file.read_bytes() + b"note" + (4).to_bytes(4, "little") + b"ABCD"
    file.write_bytes(raw[:4] + (len(raw) - 8).to_bytes(4, "little") + raw[8:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(words).hash == expected


@pytest.mark.parametrize("option", [{"length": 0}, {"length": 2.5}, {"resample": -1}])
def test_lengths_and_rates_must_be_positive(words: Path, option: dict) -> None:
    with pytest.raises(NetprobeError, match="must be a whole number, at least 1"):
        load(words, **option)


def test_image_options_do_not_apply(words: Path) -> None:
    with pytest.raises(NetprobeError, match="size= does not apply"):
        load(words, size=3)


@pytest.fixture
def commands(tmp_path: Path, write_wav: Write) -> Path:
    """A data root with Speech Commands of two words, seven recordings, one shorter than a second."""
    folder = tmp_path / "SpeechCommands" / "speech_commands_v0.02"
    for k, word in enumerate(("bed", "cat")):
        for i in range(3):
            write_wav(folder / word / f"{i}_nohash_0.wav", rate=16000, length=16000, seed=10 * k + i)
    write_wav(folder / "cat" / "3_nohash_0.wav", rate=16000, length=12000, seed=9)
    write_wav(folder / "_background_noise_" / "pink.wav", rate=16000, length=99999)
    (folder / "testing_list.txt").write_text("bed/0_nohash_0.wav\ncat/3_nohash_0.wav\n")
    (folder / "validation_list.txt").write_text("bed/1_nohash_0.wav\n")
    return tmp_path


def test_speech_commands_follows_its_lists(commands: Path) -> None:
    parts = {split: load("speech-commands", split, root=commands) for split in ("train", "val", "test")}
    assert {split: (len(d), d.split) for split, d in parts.items()} == {
        "train": (4, "train"),
        "val": (1, "valid"),
        "test": (2, "test"),
    }
    assert all(d.classes == ("bed", "cat") and d.shape == (16000,) for d in parts.values())
    assert not parts["test"].stored[1, 12000:].any()
    assert parts["train"].name == "speech-commands"


def test_speech_commands_names_lost_recordings(commands: Path) -> None:
    (commands / "SpeechCommands" / "speech_commands_v0.02" / "bed" / "0_nohash_0.wav").unlink()
    with pytest.raises(MissingData, match=r"no bed/0_nohash_0\.wav in .*speech_commands_v0\.02\.tar\.gz"):
        load("speech-commands", root=commands)


def test_speech_commands_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"no testing_list\.txt.*netprobe does not download it: unpack https"):
        load("speech-commands", root=tmp_path)
    with pytest.raises(NetprobeError, match="download= does not apply to 'speech-commands'"):
        load("speech-commands", root=tmp_path, download=True)
