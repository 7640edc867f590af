"""The codes of partial adversarial training: what stage 1 trains, what stays, what is trained anew, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from netprobe.errors import NetprobeError, unknown

ADVERSARIAL, NATURAL = "adversarial", "natural"
TRAININGS = {"N": NATURAL, "A": ADVERSARIAL}
SINGLE = "_l"
"""Ends the codes in which a single layer, the one at the cutoff, is trained anew."""


@dataclass(frozen=True)
class Code:
    """One way to train a network in two parts, EARLY before a cutoff and LATE from it on.

    Two pairs of a letter and a digit, EARLY first: A adversarial, N natural; 1 trained in stage 1 and then frozen,
    2 re-initialised and trained in stage 2. Stage 1 always trains the whole network, in the way of the digit 1.

        A1N2    adversarial training; then LATE is re-initialised and trained naturally on top of the frozen EARLY
        N2A1    adversarial training; then EARLY is re-initialised and trained naturally below the frozen LATE
        N2A1_l  adversarial training; then the one layer at the cutoff is re-initialised and trained naturally

    `stage1` and `stage2` are "natural" or "adversarial"; `frozen` is "early", "late" or "rest" (all but one layer).
    Source: Bakiskan (2022), dissertation, section 3.1.
    """

    name: str
    stage1: str
    stage2: str
    frozen: str

    @property
    def single(self) -> bool:
        """Whether stage 2 trains a single layer."""
        return self.frozen == "rest"

    @property
    def control(self) -> bool:
        """Whether both stages train alike, which shows what re-initialising and a fresh optimiser do by themselves."""
        return self.stage1 == self.stage2

    def retrained(self, cutoff: int, layers: int) -> range:
        """Positions of the layers that stage 2 re-initialises and trains, for `cutoff` early layers of so many.

        NetprobeError for a cutoff outside 0..layers; a single layer needs one below `layers`.
        """
        last = layers - 1 if self.single else layers
        if not 0 <= cutoff <= last:
            raise NetprobeError(f"cutoff {cutoff} of {self.name} must be in 0..{last}: the model has {layers} layers")
        if self.single:
            return range(cutoff, cutoff + 1)
        return range(cutoff, layers) if self.frozen == "early" else range(cutoff)

    def adversarial(self, cutoff: int, layers: int) -> list[int]:
        """Positions of the layers whose weights come from adversarial training."""
        anew = self.retrained(cutoff, layers)
        return [at for at in range(layers) if (self.stage2 if at in anew else self.stage1) == ADVERSARIAL]

    def __str__(self) -> str:
        part = {"early": "the late layers are", "late": "the early layers are", "rest": "one layer is"}[self.frozen]
        manner = {NATURAL: "naturally", ADVERSARIAL: "adversarially"}[self.stage2]
        return f"{self.name}: {self.stage1} training, then {part} re-initialised and trained {manner}, the rest frozen"


def _code(early: str, late: str, frozen: str) -> Code:
    first, second = (early, late) if frozen == "early" else (late, early)
    digits = ("1", "2") if frozen == "early" else ("2", "1")
    name = f"{early}{digits[0]}{late}{digits[1]}{SINGLE * (frozen == 'rest')}"
    return Code(name, TRAININGS[first], TRAININGS[second], frozen)


_EVERY = [_code(*letters, frozen) for frozen in ("early", "late", "rest") for letters in ("AN", "NA", "NN", "AA")]
CODES: dict[str, Code] = {code.name: code for code in _EVERY}
"""Every code by its name."""

MIXED = ("A1N2", "N1A2", "A2N1", "N2A1")
"""The four codes whose two parts are trained differently."""


def parse_code(code: str | Code) -> Code:
    """The code of that name; NetprobeError with all names for any other.

    >>> from netprobe.training import partial
    >>> partial.parse_code("A1N2")
    Code(name='A1N2', stage1='adversarial', stage2='natural', frozen='early')
    """
    if isinstance(code, Code):
        return code
    if code not in CODES:
        raise unknown("code", code, CODES, "Early part first: A adversarial, N natural; 1 kept, 2 trained anew.")
    return CODES[code]


def parse_codes(codes: str | Iterable[str | Code]) -> list[Code]:
    """The codes in "A1N2,N1A2" or in a sequence; NetprobeError if there is none, or one occurs twice."""
    several = re.split(r"[,\s]+", codes.strip(", ")) if isinstance(codes, str) else list(codes)
    found = [parse_code(code) for code in several if code]
    names = [code.name for code in found]
    if not found or len(set(names)) < len(names):
        raise NetprobeError(
            f"codes={codes!r}: name each code once, for example A1N2,N1A2; there are {', '.join(CODES)}"
        )
    return found
