"""The common corruptions one image at a time, in numpy and SciPy: slow, obvious, and written apart from the library.

`REFERENCE[name](x, level, rng)` corrupts one image x (H, W, C), float in [0, 1], with the constants `level`; `rng` is a
numpy Generator. The result is clipped to [0, 1]. Frost takes the textures of the library and is not here.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

Rng = np.random.Generator


def gaussian_noise(x: np.ndarray, c: float, rng: Rng) -> np.ndarray:
    return x + rng.normal(0, c, x.shape)


def shot_noise(x: np.ndarray, c: float, rng: Rng) -> np.ndarray:
    return rng.poisson(x * c) / c


def impulse_noise(x: np.ndarray, c: float, rng: Rng) -> np.ndarray:
    flipped, salt = rng.random(x.shape) < c, rng.random(x.shape) < 0.5
    return np.where(flipped, salt, x)


def speckle_noise(x: np.ndarray, c: float, rng: Rng) -> np.ndarray:
    return x + x * rng.normal(0, c, x.shape)


def gaussian_blur(x: np.ndarray, c: float, rng: Rng) -> np.ndarray:
    return ndimage.gaussian_filter(x, (c, c, 0), mode="nearest", truncate=4)


def glass_blur(x: np.ndarray, c: tuple, rng: Rng, swap: bool = False) -> np.ndarray:
    sigma, d, iterations = c
    x = gaussian_blur(x, sigma, rng)
    height, width = x.shape[:2]
    for _ in range(iterations):
        offsets = rng.integers(-d, d, (2, height, width))
        sequential_pass(x, offsets, d, swap)
    return gaussian_blur(x, sigma, rng)


def sequential_pass(x: np.ndarray, offsets: np.ndarray, d: int, swap: bool) -> None:
    """The loop of the benchmark, in place; its swap of two views of one array copies, unless told otherwise."""
    for row in range(x.shape[0] - d, d, -1):
        for column in range(x.shape[1] - d, d, -1):
            there = (row + offsets[0, row, column], column + offsets[1, row, column])
            mine = np.copy(x[row, column])
            x[row, column] = x[there]
            if swap:
                x[there] = mine


def defocus_blur(x: np.ndarray, c: tuple, rng: Rng) -> np.ndarray:
    radius, smooth = c
    half, window = (8, 1) if radius <= 8 else (int(radius), 2)
    disk = np.array(
        [[i * i + j * j <= radius * radius for j in range(-half, half + 1)] for i in range(-half, half + 1)]
    )
    ramp = np.exp(-(np.arange(-window, window + 1.0) ** 2) / (2 * smooth**2))
    kernel = ndimage.correlate(disk / disk.sum(), np.outer(ramp, ramp) / ramp.sum() ** 2, mode="mirror")
    return np.stack([ndimage.correlate(channel, kernel, mode="mirror") for channel in np.moveaxis(x, 2, 0)], 2)


def motion_blur(x: np.ndarray, c: tuple, rng: Rng) -> np.ndarray:
    return line_blur(x, *c, rng.uniform(-45, 45))


def line_blur(x: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    out = np.zeros_like(x)
    for i, weight in enumerate(weights / weights.sum()):
        down = math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
        right = math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
        rows = np.clip(np.arange(x.shape[0]) + down, 0, x.shape[0] - 1)
        columns = np.clip(np.arange(x.shape[1]) + right, 0, x.shape[1] - 1)
        out += weight * x[rows][:, columns]
    return out


def zoom_blur(x: np.ndarray, c: tuple, rng: Rng) -> np.ndarray:
    most, step = c
    zooms = [clipped_zoom(x, factor) for factor in np.arange(1, most + step / 4, step)]
    return (x + sum(zooms)) / (1 + len(zooms))


def clipped_zoom(x: np.ndarray, factor: float) -> np.ndarray:
    crops = [math.ceil(size / factor) for size in x.shape[:2]]
    tops = [(size - crop) // 2 for size, crop in zip(x.shape, crops, strict=False)]
    x_crop = x[tops[0] : tops[0] + crops[0], tops[1] : tops[1] + crops[1]]
    zoomed = ndimage.zoom(x_crop, (factor, factor, 1), order=1)
    trims = [(big - size) // 2 for big, size in zip(zoomed.shape, x.shape[:2], strict=False)]
    return zoomed[trims[0] : trims[0] + x.shape[0], trims[1] : trims[1] + x.shape[1]]


def luma(x: np.ndarray) -> np.ndarray:
    return x if x.shape[2] == 1 else (x @ [0.299, 0.587, 0.114])[..., None]


def snow(x: np.ndarray, c: tuple, rng: Rng) -> np.ndarray:
    loc, scale, zoom, threshold, radius, sigma, weight = c
    layer = clipped_zoom(rng.normal(loc, scale, (*x.shape[:2], 1)), zoom)
    layer[layer < threshold] = 0
    layer = line_blur(layer.clip(0, 1), radius, sigma, rng.uniform(-135, -45))
    white = weight * x + (1 - weight) * np.maximum(x, 1.5 * luma(x) + 0.5)
    return white + layer + np.rot90(layer, 2)


def fog(x: np.ndarray, c: tuple, rng: Rng) -> np.ndarray:
    amount, decay = c
    side = 1
    while side < max(x.shape[:2]):
        side *= 2
    cloud = diamond_square(rng.uniform(-1, 1, (side, side)), decay)[: x.shape[0], : x.shape[1], None]
    return (x + amount * cloud) * x.max() / (x.max() + amount)


def diamond_square(noise: np.ndarray, decay: float) -> np.ndarray:
    """On a torus: the centres of all squares, then the middles of their edges, at ever smaller steps."""
    cloud, step, amplitude = np.zeros_like(noise), len(noise), 1.0
    while step >= 2:
        half = step // 2
        for rows, columns, diagonal in ((half, half, True), (0, half, False), (half, 0, False)):
            around = [(-half, 0), (half, 0), (0, -half), (0, half)]
            around = [(i, j) for i in (-half, half) for j in (-half, half)] if diagonal else around
            mean = sum(np.roll(cloud, shift, (0, 1)) for shift in around)[rows::step, columns::step] / 4
            cloud[rows::step, columns::step] = mean + amplitude * noise[rows::step, columns::step]
        step, amplitude = half, amplitude / decay**2
    return (cloud - cloud.min()) / np.ptp(cloud)


def spatter(x: np.ndarray, c: tuple, rng: Rng) -> np.ndarray:
    loc, scale, blur, threshold, strength, mud = c
    layer = ndimage.gaussian_filter(rng.normal(loc, scale, x.shape[:2]), blur, mode="nearest")
    layer[layer < threshold] = 0
    if mud:
        mask = ndimage.gaussian_filter((layer > threshold).astype(float), strength, mode="nearest")
        mask[mask < 0.8] = 0
        return (1 - mask[..., None]) * x + mask[..., None] * tint(x, (63, 42, 20))
    levels = np.floor(255 * layer).clip(0, 255)
    shown = levels * relief(levels)
    return x + strength * (shown / max(shown.max(), 1e-9))[..., None] * tint(x, (175, 238, 238))


def tint(x: np.ndarray, colour: tuple) -> np.ndarray:
    rgb = np.array(colour, float).reshape(1, 1, 3) / 255
    return luma(rgb) if x.shape[2] == 1 else rgb


def relief(levels: np.ndarray) -> np.ndarray:
    found = canny(levels, 50, 150)
    far = ndimage.distance_transform_edt(~found).clip(0, 20) if found.any() else np.full(levels.shape, 20.0)
    far = np.floor(ndimage.uniform_filter(far, 3, mode="mirror") + 1e-6)
    slope = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], float)
    shade = ndimage.correlate(equalise(far), slope, mode="mirror").clip(0, 255)
    return np.round(ndimage.uniform_filter(shade, 3, mode="mirror") + 1e-6)


def equalise(levels: np.ndarray) -> np.ndarray:
    least = (levels == levels.min()).sum()
    if least == levels.size:
        return levels
    table = {v: round(255 * ((levels <= v).sum() - least) / (levels.size - least)) for v in np.unique(levels)}
    return np.vectorize(table.get, otypes=[float])(levels)


def canny(levels: np.ndarray, weak: float, strong: float) -> np.ndarray:
    right, down = (ndimage.sobel(levels, axis=axis, mode="nearest") for axis in (1, 0))
    size = np.abs(right) + np.abs(down)
    angle = np.degrees(np.arctan2(np.abs(down), np.abs(right)))
    falling = right * down >= 0
    peaks = np.select(
        [angle < 22.5, angle > 67.5, falling],
        [higher(size, 0, -1) & (size >= moved(size, 0, 1)), higher(size, -1, 0) & (size >= moved(size, 1, 0)),
         higher(size, -1, -1) & higher(size, 1, 1)],
        higher(size, -1, 1) & higher(size, 1, -1),
    )  # fmt: skip
    groups, _ = ndimage.label(peaks & (size > weak), np.ones((3, 3)))
    return (groups > 0) & np.isin(groups, np.unique(groups[peaks & (size > strong)]))


def moved(size: np.ndarray, down: int, right: int) -> np.ndarray:
    """The neighbour so far below and to the right of each pixel; 0 outside."""
    return np.pad(size, 1)[1 + down : 1 + down + size.shape[0], 1 + right : 1 + right + size.shape[1]]


def higher(size: np.ndarray, down: int, right: int) -> np.ndarray:
    return size > moved(size, down, right)


def brightness(x: np.ndarray, c: float, rng: Rng) -> np.ndarray:
    if x.shape[2] == 1:
        return x + c
    hue, saturation, value = to_hsv(x)
    return to_rgb(hue, saturation, (value + c).clip(0, 1))


def saturate(x: np.ndarray, c: tuple, rng: Rng) -> np.ndarray:
    hue, saturation, value = to_hsv(x)
    return to_rgb(hue, (c[0] * saturation + c[1]).clip(0, 1), value)


def to_hsv(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in sixths of the circle from red; 0 for grey."""
    value, spread = x.max(2), np.ptp(x, axis=2)
    safe = np.where(spread == 0, 1, spread)
    r, g, b = np.moveaxis(x, 2, 0)
    hue = np.select([value == r, value == g], [(g - b) / safe % 6, 2 + (b - r) / safe], 4 + (r - g) / safe)
    return np.where(spread == 0, 0, hue), np.where(value == 0, 0, spread / np.where(value == 0, 1, value)), value


def to_rgb(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """f(n) = V - V S max(0, min(k, 4 - k, 1)), k = (n + hue) mod 6, for n = 5, 3, 1."""
    k = (np.array([5, 3, 1]) + hue[..., None]) % 6
    return (value[..., None]) * (1 - saturation[..., None] * np.minimum(k, 4 - k).clip(0, 1))


def contrast(x: np.ndarray, c: float, rng: Rng) -> np.ndarray:
    mean = x.mean((0, 1))
    return (x - mean) * c + mean


def as_picture(x: np.ndarray) -> Image.Image:
    pixels = np.uint8(np.floor(255 * x + 0.5))
    return Image.fromarray(pixels[..., 0] if x.shape[2] == 1 else pixels)


def jpeg_compression(x: np.ndarray, c: int, rng: Rng) -> np.ndarray:
    file = io.BytesIO()
    as_picture(x).save(file, "JPEG", quality=c)
    return np.asarray(Image.open(file)).reshape(x.shape) / 255


def pixelate(x: np.ndarray, c: float, rng: Rng) -> np.ndarray:
    height, width = x.shape[:2]
    small = as_picture(x).resize((int(width * c), int(height * c)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.BOX)).reshape(x.shape) / 255


def elastic_transform(x: np.ndarray, c: tuple, rng: Rng, unit: float | None = None) -> np.ndarray:
    height, width = x.shape[:2]
    unit = unit or min(height, width) * (1 if min(height, width) < 64 else 244 / 224)
    strength, sigma, affine = (unit * part for part in c)
    half, centre = min(height, width) // 3, np.array([width // 2, height // 2])
    corners = centre + np.array([[half, half], [half, -half], [-half, -half]])
    moved = corners + rng.uniform(-affine, affine, (3, 2))
    back = np.linalg.solve(np.c_[moved, np.ones(3)], corners)  # (right, down, 1) of the result to (right, down) of x
    down, right = np.mgrid[:height, :width]
    points = np.stack([right, down, np.ones_like(down)], -1) @ back
    x = warped(x, points[..., 1], points[..., 0], "mirror")
    if strength == 0:
        return x
    dx, dy = (
        strength * ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3)
        for field in rng.uniform(-1, 1, (2, height, width))
    )
    return warped(x, down + dy, right + dx, "reflect")


def warped(x: np.ndarray, down: np.ndarray, right: np.ndarray, mode: str) -> np.ndarray:
    channels = [ndimage.map_coordinates(channel, [down, right], order=1, mode=mode) for channel in np.moveaxis(x, 2, 0)]
    return np.stack(channels, 2)


# The constants of severities 1 to 5: of CIFAR-10-C, then of ImageNet-C.
LEVELS = {
    "gaussian_noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": ((500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": ((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27)),
    "speckle_noise": ((0.06, 0.1, 0.12, 0.16, 0.2), (0.15, 0.2, 0.35, 0.45, 0.6)),
    "gaussian_blur": ((0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    "glass_blur": (
        ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
    ),
    "defocus_blur": (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "motion_blur": (((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)), ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": (
        tuple((most, 0.01) for most in (1.05, 1.10, 1.15, 1.20, 1.25)),
        ((1.10, 0.01), (1.15, 0.01), (1.20, 0.02), (1.25, 0.02), (1.30, 0.03)),
    ),
    "fog": (
        ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
        ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    ),
    "frost": (
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    ),
    "snow": (
        (
            (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
            (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
        ),
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "spatter": (
        (
            (0.62, 0.1, 0.7, 0.7, 0.5, 0),
            (0.65, 0.1, 0.8, 0.7, 0.5, 0),
            (0.65, 0.3, 1, 0.69, 0.5, 0),
            (0.65, 0.1, 0.7, 0.69, 0.6, 1),
            (0.65, 0.1, 0.5, 0.68, 0.6, 1),
        ),
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
    ),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "saturate": (
        ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
        ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    ),
    "jpeg_compression": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "elastic_transform": (
        ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
    ),
}

REFERENCE: dict[str, Callable[[np.ndarray, object, Rng], np.ndarray]] = {
    function.__name__: function
    for function in (
        gaussian_noise,
        shot_noise,
        impulse_noise,
        defocus_blur,
        glass_blur,
        motion_blur,
        zoom_blur,
        snow,
        fog,
        brightness,
        contrast,
        elastic_transform,
        pixelate,
        jpeg_compression,
        speckle_noise,
        gaussian_blur,
        spatter,
        saturate,
    )
}


def corrupted(name: str, x: np.ndarray, level: object, seed: int) -> np.ndarray:
    """A batch (N, C, H, W), image by image."""
    rng = np.random.default_rng(seed)
    images = [REFERENCE[name](np.moveaxis(image, 0, 2).astype(float), level, rng) for image in x]
    return np.moveaxis(np.stack(images), 3, 1).clip(0, 1)
