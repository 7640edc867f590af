"""How to probe: the keywords of `netprobe.probe` and the flags of the command line, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from netprobe.errors import NetprobeError, unknown


def option(default: Any, help: str) -> Any:
    """A setting with its one-line explanation; the command line makes its flag from both."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class ProbeSettings:
    """How to probe; every field is a keyword of `probe` and a flag of `netprobe probe`."""

    sites: Any = option(
        "weighted",
        "where to listen: glob, 're:REGEX', a kind such as conv, linear, block; '~' excludes, ':in' inputs",
    )
    metrics: Any = option("psr,snr,hoyer,spectrum,correlation", "which quantities, by name")
    batch_size: int | None = option(None, "images at a time; by default chosen by image size and device")
    seed: int = option(0, "seed of every random draw; noise belongs to an image, not to its batch")
    device: str | None = option(None, "where to run, for example cuda:0; by default where the model is")
    dtype: str = option("float32", "float32, or float64 for perturbations below about 0.1/255")
    memory: str = option("2GiB", "budget for 'unit' spectra and CKA, which need many images' activations at once")
    paired: bool | None = option(None, "clean and perturbed images in one batch; by default, unless samples interact")
    preflight: bool = option(True, "look for silent mistakes first")
    strict: bool = option(False, "make findings of the preflight errors")
    shard: str = option("0/1", "i/n: only the i-th of n equal parts of the images, to be merged later")
    progress: bool = option(True, "show a progress bar")

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
