"""How to probe: the keywords of `netprobe.probe` and the flags of the command line, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from netprobe.errors import NetprobeError, unknown

__all__ = ["EvaluateSettings", "GeometrySettings", "ProbeSettings", "SpectrumSettings", "WeightsSettings"]


@dataclass(frozen=True)
class ProbeSettings:
    """How to probe; every field is a keyword of `probe` and a flag of `netprobe probe`."""

    sites: Any = field(
        default="weighted",
        metadata={
            "help": "where to listen: glob, 're:REGEX', a kind such as conv, linear, block; '~' excludes, ':in' inputs"
        },
    )
    metrics: Any = field(
        default="psr,snr,hoyer,spectrum,correlation",
        metadata={"help": "which quantities, by name; `netprobe metrics` lists all"},
    )
    batch_size: int | None = field(
        default=None, metadata={"help": "images at a time; by default chosen by image size and device"}
    )
    seed: int = field(
        default=0, metadata={"help": "seed of every random draw; noise belongs to an image, not to its batch"}
    )
    device: str | None = field(
        default=None, metadata={"help": "where to run, for example cuda:0; by default where the model is"}
    )
    dtype: str = field(
        default="float32", metadata={"help": "float32, or float64 for perturbations below about 0.1/255"}
    )
    memory: str = field(
        default="2GiB",
        metadata={"help": "budget for what grows with images or squared channels: kernels, jackknife blocks"},
    )
    compile: bool = field(
        default=False,
        metadata={"help": "on a GPU, fuse norms and sparsity into one pass with torch.compile, for long runs"},
    )
    paired: bool | None = field(
        default=None, metadata={"help": "clean and perturbed images in one batch; by default, unless samples interact"}
    )
    preflight: bool = field(default=True, metadata={"help": "look for silent mistakes first"})
    strict: bool = field(default=False, metadata={"help": "make findings of the preflight errors"})
    shard: str = field(
        default="0/1", metadata={"help": "i/n: only the i-th of n equal parts of the images, to be merged later"}
    )
    progress: bool = field(default=True, metadata={"help": "show a progress bar"})

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            raise unknown("dtype", self.dtype, ("float32", "float64"))
        if self.batch_size is not None and self.batch_size < 1:
            raise NetprobeError(f"batch_size={self.batch_size}: give at least 1")
        if self.seed < 0:
            raise NetprobeError(f"seed={self.seed}: give 0 or more")
        in_bytes(self.memory)
        self.share(1)

    def share(self, images: int) -> range:
        """The positions of this shard's images."""
        i, n = shard_of(self.shard)
        return range(images * i // n, images * (i + 1) // n)


def shard_of(text: str) -> tuple[int, int]:
    """Which of how many parts "i/n" names."""
    try:
        i, n = map(int, str(text).split("/"))
    except ValueError:
        i, n = -1, 0
    if not 0 <= i < n:
        raise NetprobeError(f"shard={text!r}: write i/n with 0 <= i < n, for example 0/4")
    return i, n


@dataclass(frozen=True)
class EvaluateSettings:
    """How to evaluate; every field is a keyword of `netprobe.evaluate` and a flag of `netprobe evaluate`."""

    doubts: bool = field(
        default=True, metadata={"help": "look for signs that the attacks are weak or the gradients masked"}
    )
    probe_images: int = field(default=100, metadata={"help": "images for the extra attacks that doubts need"})
    spectra: bool = field(
        default=False,
        metadata={"help": "tell the spatial frequencies of what minimum-norm attacks and corruptions change"},
    )
    batch_size: int | None = field(
        default=None, metadata={"help": "images at a time; by default chosen by image size and device"}
    )
    chunk: int | None = field(
        default=None, metadata={"help": "images of a unit of work, the most that a kill can lose; by default 4 batches"}
    )
    seed: int = field(
        default=0, metadata={"help": "seed of every random draw; noise belongs to an image, not to its batch"}
    )
    device: str | None = field(
        default=None, metadata={"help": "where to run, for example cuda:0; by default where the model is"}
    )
    gradients: str | None = field(
        default=None, metadata={"help": "precision of attack gradients, e.g. bfloat16; verdicts stay the model's own"}
    )
    preflight: bool = field(default=True, metadata={"help": "look for silent mistakes first"})
    strict: bool = field(default=False, metadata={"help": "make findings of the preflight errors"})
    shard: str = field(
        default="0/1", metadata={"help": "i/n: only the i-th of n equal parts; shards may share one folder"}
    )
    progress: bool = field(default=True, metadata={"help": "show a progress bar"})

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("chunk", 1), ("probe_images", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise NetprobeError(f"{name}={value}: give at least {least}")
        if self.gradients not in (None, *GRADIENTS):
            raise unknown("gradients", self.gradients, GRADIENTS)
        shard_of(self.shard)

    @property
    def parts(self) -> tuple[int, int]:
        """Which shard of how many this is."""
        return shard_of(self.shard)

    @property
    def gradient_dtype(self) -> Any:
        """`gradients` as torch knows it."""
        import torch

        return None if self.gradients is None else getattr(torch, self.gradients)


@dataclass(frozen=True)
class GeometrySettings:
    """What to measure; every field is a keyword of `netprobe.geometry.analyse` and a flag of `netprobe geometry`."""

    analyses: str = field(
        default="jacobian,distances,units,dimension,plane", metadata={"help": "which of these, with commas"}
    )
    sites: str = field(
        default="weighted,activation", metadata={"help": "for Jacobians and spectra: patterns as in other commands"}
    )
    wrt: str = field(
        default="input", metadata={"help": "what Jacobians and planes refer to: the input, or the output of a module"}
    )
    method: str = field(default="auto", metadata={"help": "of Jacobian norms: auto, exact or estimate"})
    draws: int = field(default=64, metadata={"help": "random projections of an estimated norm"})
    walks: str = field(default="random,fgsm,pgd", metadata={"help": "random, fgsm, pgd (3 restarts), coarse-pgd"})
    points: int = field(default=60, metadata={"help": "strengths of a walk, on a logarithmic grid"})
    noise: int | None = field(default=None, metadata={"help": "samples of white noise; by default as many as images"})
    correction: int = field(
        default=0, metadata={"help": "samples of a power law for exponents without bias, such as 32; 0: none"}
    )
    image: int = field(default=0, metadata={"help": "place of the image that the plane goes through"})
    plane_site: str | None = field(default="output", metadata={"help": "whose Jacobian is mapped on the plane"})
    plane_points: int = field(default=41, metadata={"help": "points along each side of the plane, an odd number"})
    reach: float = field(default=20.0, metadata={"help": "half the side of the plane"})
    batch_size: int | None = field(
        default=None, metadata={"help": "images at a time; by default chosen by image size and device"}
    )
    seed: int = field(default=0, metadata={"help": "seed of every random draw; noise belongs to an image"})
    progress: bool = field(default=True, metadata={"help": "show a progress bar"})

    def __post_init__(self) -> None:
        for name in self.parts:
            if name not in GEOMETRY:
                raise unknown("analysis", name, GEOMETRY)
        for name, least in (("points", 2), ("batch_size", 1), ("seed", 0), ("correction", 0), ("draws", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise NetprobeError(f"{name}={value}: give at least {least}")

    @property
    def parts(self) -> list[str]:
        """The names of `analyses`."""
        return [name.strip() for name in self.analyses.split(",") if name.strip()]

    @property
    def walked(self) -> list[str]:
        """The names of `walks`."""
        return [name.strip() for name in self.walks.split(",") if name.strip()]


GEOMETRY = ("jacobian", "distances", "units", "dimension", "plane")
GRADIENTS = ("float32", "bfloat16", "float16", "float64")


def in_bytes(size: str | int) -> int:
    """Bytes in a size such as "2GiB", "500MB" or 1000000."""
    units = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9, "B": 1, "": 1}
    text = str(size).strip()
    number = text.rstrip("KMGiB ")
    unit = text[len(number) :].strip()
    try:
        return int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError):
        raise NetprobeError(f"cannot read the size {size!r}: write for example 2GiB or 500MB") from None


METHODS = ("auto", "exact", "circular", "lanczos")
PADDINGS = ("own", "circular")
PRECISIONS = ("auto", "single", "double", "full")


@dataclass(frozen=True)
class SpectrumSettings:
    """How to compute singular values; every field is a keyword of `netprobe.weights.conv_spectrum`."""

    layers: Any = field(default="weighted", metadata={"help": "which layers: glob, 're:REGEX', conv, linear, ..."})
    method: str = field(
        default="auto",
        metadata={
            "help": "exact: all values; circular: all values of the periodic convolution, by Fourier; lanczos: the "
            "largest, and the distribution with its error; auto chooses layer by layer and records it"
        },
    )
    padding: str = field(
        default="own", metadata={"help": "own: as the layer pads; circular: the published convention, whatever it does"}
    )
    precision: str = field(
        default="auto",
        metadata={
            "help": "error over the largest value: single 5e-6, double 1e-10, full 1e-13; auto: double, lanczos single"
        },
    )
    leading: int = field(
        default=20, metadata={"help": "how many of the largest and smallest values to list", "short": "k"}
    )
    probes: int | None = field(default=None, metadata={"help": "start vectors of lanczos; by default 2 or 4, by size"})
    steps: int = field(default=40, metadata={"help": "steps of lanczos for the distribution"})
    bounds: bool = field(default=True, metadata={"help": "certified upper bounds beside the values of lanczos"})
    values: bool = field(default=False, metadata={"help": "keep all singular values of the methods that give them"})
    memory: str = field(default="2GiB", metadata={"help": "budget for matrices of exact and the basis of lanczos"})
    threads: int | None = field(default=None, metadata={"help": "frequencies at a time; by default torch's threads"})
    seed: int = field(default=0, metadata={"help": "seed of the start vectors"})
    progress: bool = field(default=True, metadata={"help": "show a progress bar"})

    def __post_init__(self) -> None:
        for name, choices in (("method", METHODS), ("padding", PADDINGS), ("precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)
        for name, least in (("leading", 1), ("probes", 1), ("steps", 2), ("threads", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise NetprobeError(f"{name}={value}: give at least {least}")
        in_bytes(self.memory)


@dataclass(frozen=True)
class WeightsSettings(SpectrumSettings):
    """How to analyse weights; every field is a keyword of `netprobe.weights.analyse` and a flag of the command line."""

    batch_size: int | None = field(
        default=None, metadata={"help": "images at a time, for the drift; by default chosen by image size and device"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size is not None and self.batch_size < 1:
            raise NetprobeError(f"batch_size={self.batch_size}: give at least 1")
