"""Folders of images: decoded into one uint8 array."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from netprobe.data.checks import whole_number
from netprobe.data.folders import Listing, list_folder
from netprobe.data.source import Source
from netprobe.errors import MissingData, NetprobeError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".pnm", ".tif", ".tiff", ".webp")
MODES = {1: "L", 3: "RGB"}
DEEP_MODES = ("I", "F")  # more than 8 bits a pixel; Pillow's conversion to 8 bits would clip them
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what Pillow raises for broken files
WORTH_A_THREAD = 64 * 64 * 3  # values; decoding smaller images is over before a thread has been handed the work


def open_images(
    folder: Path,
    split: str | None,
    *,
    size: int | tuple[int, int] | None = None,
    classes: Iterable[str] | None = None,
    name: str | None = None,
) -> Source:
    """A folder of images, one folder a class, in colour; grey images get three equal channels.

    Parameters
    ----------
    size : (height, width) or one number for both: the largest centred part of that aspect ratio, resized with
        antialiased bilinear interpolation. Needed only when the images differ in size.
    classes : the class folders in index order; default sorted by name.
    name : of the set; default the folder's.
    """
    return image_source(list_folder(folder, split, SUFFIXES, classes, name), size=size)


def image_source(listing: Listing, *, size: int | tuple[int, int] | None = None) -> Source:
    """The images of a listing, decoded when they are asked for."""
    shape = None if size is None else _check_size(size)

    def read(index: np.ndarray) -> Tensor:
        return read_images([listing.files[i] for i in index], shape)

    return Source(listing.name, listing.split, listing.labels, listing.classes, read)


def read_images(files: Sequence[Path], size: tuple[int, int] | None = None) -> Tensor:
    """These images as (N, 3, H, W) uint8."""
    first = decode(files[0], size)
    pixels = np.empty((len(files), *first.shape), np.uint8)

    def place(i: int) -> None:
        image = decode(files[i], size)
        if image.shape != first.shape:
            raise NetprobeError(
                f"images differ in size: {files[0]} is {_size(first)}, {files[i]} is {_size(image)}. "
                f"Pass size=, e.g. size={min(first.shape[1:])}, to crop and resize them (height, width)"
            )
        pixels[i] = image

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        apply = map if first.size < WORTH_A_THREAD else pool.map
        for _ in tqdm(apply(place, range(len(files))), "images", len(files), delay=2, leave=False):
            pass
    return torch.from_numpy(pixels)


def decode(file: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """One image as (3, H, W) uint8."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return to_array(image, size)
    except NetprobeError as error:
        raise NetprobeError(f"{file}: {error}") from None
    except DAMAGE as error:
        raise MissingData(f"{file} is damaged ({error}): fetch or copy it again, or remove it") from error


def to_array(image: Image.Image, size: tuple[int, int] | None = None, channels: int = 3) -> np.ndarray:
    """A Pillow image as (C, H, W) uint8."""
    from PIL import Image, ImageOps

    if image.mode.startswith(DEEP_MODES):
        raise NetprobeError(f"pixels of mode {image.mode} have more than 8 bits: convert the image to 8 bits first")
    image = image.convert(MODES[channels])
    if size is not None and image.size != size[::-1]:
        image = ImageOps.fit(image, size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _check_size(size: int | tuple[int, int]) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2:
        raise NetprobeError(f"size must be a number of pixels or (height, width), got {size!r}")
    return whole_number(pair[0], "size (height)"), whole_number(pair[1], "size (width)")


def _size(image: np.ndarray) -> str:
    return "×".join(map(str, image.shape[1:]))
