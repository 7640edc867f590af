"""How to probe: the keywords of `netprobe.probe` and the flags of the command line, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from netprobe.errors import NetprobeError, unknown


@dataclass(frozen=True)
class ProbeSettings:
    """How to probe; every field is a keyword of `probe` and a flag of `netprobe probe`."""

    sites: Any = field(
        default="weighted",
        metadata={
            "help": "where to listen: glob, 're:REGEX', a kind such as conv, linear, block; '~' excludes, ':in' inputs"
        },
    )
    metrics: Any = field(default="psr,snr,hoyer,spectrum,correlation", metadata={"help": "which quantities, by name"})
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
        try:
            i, n = map(int, str(self.shard).split("/"))
        except ValueError:
            i, n = -1, 0
        if not 0 <= i < n:
            raise NetprobeError(f"shard={self.shard!r}: write i/n with 0 <= i < n, for example 0/4")
        return range(images * i // n, images * (i + 1) // n)


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
