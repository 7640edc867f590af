"""Frost on the window: photographs of it where the user has them, a random texture of their statistics otherwise."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from netprobe.errors import MissingData, NetprobeError
from netprobe.perturb.corruptions.base import Corruption, Levels, grey
from netprobe.perturb.randomness import normal, uniform

PROCEDURAL, PACKAGE = "procedural", "imagecorruptions"
SUFFIXES = (".png", ".jpg", ".jpeg")
DRAWN = 5
"""The benchmark has six photographs and draws one of the first five; the second and the third are one picture."""

# Of crops of those five, as the benchmark takes them: mean (R, G, B), standard deviation inside a crop, and that of
# the crop's mean. Measured over 300 crops each.
PICTURES = (
    ((0.31, 0.58, 0.65), (0.09, 0.053, 0.05), (0.06, 0.035, 0.028)),
    ((0.78, 0.79, 0.83), (0.073, 0.075, 0.078), (0.027, 0.03, 0.032)),
    ((0.78, 0.79, 0.83), (0.073, 0.075, 0.078), (0.027, 0.03, 0.032)),
    ((0.56, 0.62, 0.67), (0.102, 0.102, 0.107), (0.032, 0.032, 0.034)),
    ((0.40, 0.45, 0.49), (0.141, 0.14, 0.137), (0.058, 0.056, 0.052)),
)
SLOPES = {"cifar": 0.8, "imagenet": 1.75}
"""Their power falls with frequency f like f^-slope; the photographs are five times smaller on small images."""


def textures(where: str, value: object) -> str:
    """Check the setting `textures`: "procedural", "imagecorruptions" or a folder; what is in it is read when used."""
    if not isinstance(value, str) or not value:
        raise NetprobeError(
            f"{where} must be {PROCEDURAL!r}, {PACKAGE!r} (the photographs of that package, if it is installed) or the "
            f"path of a folder of photographs of frost, not {value!r}"
        )
    return value


@dataclass(frozen=True, kw_only=True, repr=False)
class Frost(Corruption):
    """x' = clip(a x + b frost), frost a random crop of one of several photographs; levels are (a, b).

    The benchmark's photographs are not ours to give. Without them the frost is a Gaussian random field of their mean
    colours, standard deviations and power spectrum (`field_of`): the change of the image then has the size and the
    frequencies of the benchmark's, but not its crystals, so an accuracy under it need not equal a published one. For
    that set `textures` to a folder that holds them (frost1.png to frost5.jpg), or to "imagecorruptions" if that
    package is installed. Photographs are scaled by 0.2 for small images.
    """

    name: ClassVar[str] = "frost"
    title: ClassVar[str] = "frost"
    levels: ClassVar[Levels] = Levels(
        ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
        ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    )

    textures: str = field(
        default=PROCEDURAL,
        metadata={
            "check": textures,
            "help": f"{PROCEDURAL}, {PACKAGE} (if installed), or a folder of photographs of frost",
        },
    )

    def corrupted(self, x: Tensor, level: tuple[float, float], generator: torch.Generator | None) -> Tensor:
        small = self.constants_for(x) == "cifar"
        if self.textures == PROCEDURAL:
            frost = field_of(x, SLOPES[self.constants_for(x)], generator)
        else:
            frost = crops(x, photographs(self.textures, 0.2 if small else 1.0, tuple(x.shape[-2:])), generator)
        return level[0] * x + level[1] * (grey(frost) if x.shape[1] == 1 else frost)


def field_of(x: Tensor, slope: float, generator: torch.Generator | None) -> Tensor:
    """Frost for each image of `x`: (N, 3, H, W), in [0, 1] but for what the clip of the corruption takes away.

    mean + spread_of_mean n + spread z: one of `PICTURES` at random, n ~ N(0, 1), and z a periodic Gaussian field of
    power f^-slope, of mean 0 and variance 1 in every image. The channels share n and z.
    """
    statistics = x.new_tensor(PICTURES)  # (picture, 3 statistics, channel)
    chosen = statistics[_which(x, len(PICTURES), generator)][..., None, None]
    mean, spread, spread_of_mean = chosen.unbind(1)
    shift = normal(x.new_empty(len(x), 1, 1, 1), generator)
    white = torch.fft.rfft2(normal(x[:, :1], generator))
    down = torch.fft.fftfreq(x.shape[-2], device=x.device, dtype=x.dtype)
    right = torch.fft.rfftfreq(x.shape[-1], device=x.device, dtype=x.dtype)
    frequency = torch.hypot(down[:, None], right)
    frequency[0, 0] = math.inf
    z = torch.fft.irfft2(white * frequency ** (-slope / 2), s=x.shape[-2:])
    size = z.square().mean((2, 3), keepdim=True).sqrt()
    return mean + spread_of_mean * shift + spread * z / size.masked_fill(size == 0, 1)


def crops(x: Tensor, pictures: Sequence[Tensor], generator: torch.Generator | None) -> Tensor:
    """For each image of `x` a random crop of a random picture, (N, 3, H, W)."""
    which = _which(x, len(pictures), generator).tolist()
    places = uniform(x.new_empty(len(x), 2), generator).tolist()
    return torch.stack([_crop(pictures[k], x.shape[-2:], place) for k, place in zip(which, places, strict=True)]).to(x)


@functools.lru_cache(maxsize=8)
def photographs(textures: str, scale: float, least: tuple[int, int]) -> tuple[Tensor, ...]:
    """The photographs in [0, 1], (3, H, W) each, scaled bilinearly by `scale`, or by more if smaller than `least`."""
    from netprobe.data.images import decode

    return tuple(_scaled(torch.tensor(decode(file)), scale, least) for file in files(textures))


def files(textures: str) -> list[Path]:
    """The photographs of a folder, or the five of the package imagecorruptions that the benchmark draws from."""
    folder = _package_folder() if textures == PACKAGE else Path(textures).expanduser()
    found = sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES) if folder.is_dir() else []
    if not found:
        raise MissingData(
            f"frost: no photographs ({', '.join(SUFFIXES)}) in {folder.absolute()}: put those of the benchmark there "
            f"(frost1.png to frost5.jpg of github.com/hendrycks/robustness), or set textures={PROCEDURAL!r}"
        )
    return found[:DRAWN] if textures == PACKAGE else found


def _package_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingData(
            f"frost: the package {PACKAGE} is not installed: pip install {PACKAGE}, or set textures to a folder of "
            f"photographs or to {PROCEDURAL!r}"
        )
    return Path(spec.submodule_search_locations[0]) / "frost"


def _scaled(picture: Tensor, scale: float, least: tuple[int, int]) -> Tensor:
    scale = max(scale, *((side + 1) / size for side, size in zip(least, picture.shape[1:], strict=True)))
    if scale == 1:
        return picture / 255
    sizes = [max(side, round(scale * size)) for side, size in zip(least, picture.shape[1:], strict=True)]
    return F.interpolate(picture[None] / 255, sizes, mode="bilinear")[0]


def _crop(picture: Tensor, sizes: torch.Size, place: Sequence[float]) -> Tensor:
    for dim, (size, at) in enumerate(zip(sizes, place, strict=True), start=1):
        picture = picture.narrow(dim, int(at * (picture.shape[dim] - size)), size)
    return picture


def _which(x: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """One of `count` for each image of `x`, (N,)."""
    return (count * uniform(x.new_empty(len(x), 1), generator).squeeze(1)).long().clamp_max(count - 1)
