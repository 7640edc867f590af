"""What a check comes to: numbers as evidence, and a finding if they give reason to doubt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from netprobe.evaluation.paired import Paired
from netprobe.preflight.findings import Finding
from netprobe.uncertainty import wilson

CHANCE = 0.001
"""A split of images as uneven as this is by chance once in a thousand times: what is likelier raises no doubt."""

TOLERANCE = 0.02
"""So much accuracy may hang on the strength of an attack before that is worth a doubt: no attack is perfect."""

NOTHING = "there is no gradient attack among the perturbations"
RANDOM = "the model is random, so that any further attempt breaks images by luck"


@dataclass(frozen=True)
class Evidence:
    """A number with its 95 % interval, out of how many images, and the limit that it is judged by, in words."""

    quantity: str
    value: float
    low: float = math.nan
    high: float = math.nan
    images: int = 0
    limit: str = ""

    @classmethod
    def share(cls, quantity: str, count: int, images: int, limit: str = "") -> Evidence:
        """`count` of `images`, with Wilson's interval."""
        value = count / images if images else math.nan
        return cls(quantity, value, *wilson(count, images), images, limit)

    def __str__(self) -> str:
        bounds = f" [{self.low:.3g}, {self.high:.3g}]" if math.isfinite(self.low) else ""
        return f"{self.quantity} {self.value:.3g}{bounds}"


@dataclass(frozen=True)
class Judgement:
    """A check's evidence; `reason` is why not to trust the results, "" if there is none; `unable` why it was not made.

    The severity of a doubt is "warning" (the number is doubtful) or "error" (it is meaningless); a "note" explains and
    does not count as a doubt.
    """

    check: str
    evidence: tuple[Evidence, ...] = ()
    reason: str = ""
    remedy: str = ""
    severity: str = "warning"
    unable: str = ""

    @property
    def status(self) -> str:
        return "not run" if self.unable else "flagged" if self.doubtful else "passed"

    @property
    def doubtful(self) -> bool:
        return bool(self.reason) and self.severity != "note"

    @property
    def finding(self) -> Finding | None:
        """The doubt, or the note, for a table of findings."""
        if not self.reason:
            return None
        said = "; ".join(map(str, self.evidence))
        return Finding(self.severity, self.check, f"{self.reason[0].upper()}{self.reason[1:]}: {said}.", self.remedy)


def stronger(check: str, named: Sequence[str], pair: Paired, reason: str, remedy: str) -> Judgement:
    """Doubt if the second of two attacks, which must not be the stronger one, breaks more images than chance explains.

    `pair` says on how many images the model stands against the first and the second, called `named`.
    """
    evidence = (
        Evidence.share(f"accuracy under {named[0]}", pair.both + pair.only_first, pair.images),
        Evidence.share(f"accuracy under {named[1]}", pair.both + pair.only_second, pair.images),
        Evidence(
            f"images that {named[1]} alone breaks, {pair.only_first}, against {pair.only_second}, p",
            pair.p_more,
            images=pair.images,
            limit=f"at least {CHANCE:g}",
        ),
    )
    return Judgement(check, evidence, reason if pair.p_more < CHANCE else "", remedy)


def gain(check: str, by: str, broken: int, tried: int, standing: float, reason: str, remedy: str) -> Judgement:
    """Doubt if `by` breaks so many of the `tried` images that stood that the accuracy is off by more than TOLERANCE.

    `standing` is the share of all images that stood; the loss of accuracy is the share broken among those tried, times
    it, and its lower bound is compared.
    """
    if not tried:
        nothing = Evidence("images left to break", 0.0)
        return Judgement(check, (nothing,))
    low, high = (standing * bound for bound in wilson(broken, tried))
    limit = f"lower bound at most {TOLERANCE:g}"
    loss = Evidence(f"accuracy lost to {by}", standing * broken / tried, low, high, tried, limit)
    return Judgement(check, (loss,), reason if low > TOLERANCE else "", remedy)
