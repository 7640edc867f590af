"""Small real folders: image and wav files that the tests write themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile


@pytest.fixture
def write_image() -> Callable[..., np.ndarray]:
    """Write an (H, W, C) or (H, W) uint8 image of random pixels; return the pixels."""

    def write(path: Path, height: int = 5, width: int = 7, channels: int | None = 3, seed: int = 0) -> np.ndarray:
        shape = (height, width) if channels is None else (height, width, channels)
        pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return pixels

    return write


@pytest.fixture
def image_folder(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> Path:
    """pets/{train,test}/{cat,dog,emu}/*.png of 5x7 pixels; 2, 4 and 6 to test, one fewer each to train."""
    for split, fewer in (("test", 0), ("train", 1)):
        for k, (name, count) in enumerate((("dog", 4), ("cat", 2), ("emu", 6))):
            for i in range(count - fewer):
                write_image(tmp_path / "pets" / split / name / f"{i}.png", seed=100 * fewer + 10 * k + i)
    return tmp_path / "pets"


@pytest.fixture
def write_wav() -> Callable[..., np.ndarray]:
    """Write a wav file of random samples; return them."""

    def write(path: Path, length: int = 40, rate: int = 8000, dtype: str = "int16", seed: int = 0) -> np.ndarray:
        random = np.random.default_rng(seed)
        if dtype.startswith("float"):
            wave = random.uniform(-1, 1, length).astype(dtype)
        else:
            wave = random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, length, dtype, endpoint=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        wavfile.write(path, rate, wave)
        return wave

    return write
