"""The units of work of a sweep: whole networks, which stage 1 trains, and cells, which stage 2 does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netprobe.errors import unknown
from netprobe.perturb.randomness import stream_seed
from netprobe.training.partial.codes import ADVERSARIAL, NATURAL, Code


@dataclass(frozen=True)
class Whole:
    """A whole network trained one way: stage 1 of every code that begins so, and an end point of every curve."""

    training: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.training}-seed{self.seed}"


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    code: Code
    cutoff: int
    seed: int

    @property
    def label(self) -> str:
        return f"{self.code.name}-{self.cutoff:02d}-seed{self.seed}"

    @property
    def stage2_seed(self) -> int:
        """Of the fresh weights, the order of images and the attacks of stage 2, which owe nothing to stage 1."""
        return stream_seed(self.seed, "stage 2")

    @property
    def stage1(self) -> Whole:
        """The network that it begins with."""
        return Whole(self.code.stage1, self.seed)


Unit = Whole | Cell


def wholes(codes: Sequence[Code], seeds: Sequence[int]) -> list[Whole]:
    """Those that some code trains in stage 1, or, with all its layers trained as in stage 2, leads to."""
    used = {way for code in codes for way in (code.stage1, code.stage2)}
    return [Whole(way, seed) for seed in seeds for way in (NATURAL, ADVERSARIAL) if way in used]


def cells(codes: Sequence[Code], cutoffs: dict[str, list[int]], seeds: Sequence[int]) -> list[Cell]:
    """Every code at each of its cutoffs, which are given by its name."""
    return [Cell(code, cutoff, seed) for seed in seeds for code in codes for cutoff in cutoffs[code.name]]


def chosen(units: Sequence[Unit], labels: Sequence[str] | None) -> list[Unit]:
    """The units of these labels, None for all; NetprobeError for a label that none has."""
    if labels is None:
        return list(units)
    by_label = {unit.label: unit for unit in units}
    for label in labels:
        if label not in by_label:
            raise unknown("cell", label, by_label, "It must be in the grid of these codes, cutoffs and seeds.")
    return [by_label[label] for label in labels]
