"""Which pairs of images a similarity target is given for, and what it is: S^Th and its variants."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from netprobe.errors import NetprobeError, unknown

KEPT = ("all", "low", "high", "high_positive", "positive", "negative", "double")


@dataclass(frozen=True)
class SimilarityRange:
    """Pairs to keep and their targets, told by their similarity S alone.

        target = +boost if S > threshold, -boost if S < -threshold, otherwise 0          (strict)

    threshold   None: the target is S itself (S^pixel), and all pairs are kept
    kept        "all"; "low": |S| < threshold; "high": |S| > threshold; "high_positive": S > threshold;
                "positive": S > threshold or |S| < threshold; "negative": S < -threshold or |S| < threshold;
                "double": |S| > threshold or |S| < lower
    lower       of "double" alone, below the threshold
    boost       size of the targets that are not 0

    Source: arXiv 2410.03952.

    >>> import torch
    >>> import netprobe as npb
    >>> npb.SimilarityRange(threshold=0.5).targets(torch.tensor([-0.9, 0.1, 0.7]))
    tensor([-1.,  0.,  1.])
    """

    threshold: float | None = 0.8
    kept: str = "all"
    lower: float | None = None
    boost: float = 1.0

    def __post_init__(self) -> None:
        if self.kept not in KEPT:
            raise unknown("range of similarities", self.kept, KEPT)
        if self.threshold is None and self.kept != "all":
            raise NetprobeError(f"kept={self.kept!r} needs a threshold; without one all pairs are kept")
        if self.threshold is not None and not self.threshold >= 0:
            raise NetprobeError(f"threshold={self.threshold}: give 0 or more, or None for the similarities themselves")
        if (self.lower is None) == (self.kept == "double"):
            raise NetprobeError(f"lower={self.lower} and kept={self.kept!r}: 'double' alone takes lower, and needs it")
        if self.lower is not None and not 0 < self.lower < self.threshold:
            raise NetprobeError(f"lower={self.lower} must lie between 0 and threshold={self.threshold}")

    def targets(self, similarity: Tensor) -> Tensor:
        """Of pairs of this similarity, in its shape and type."""
        if self.threshold is None:
            return similarity.clone()
        return torch.where(similarity.abs() > self.threshold, self.boost * similarity.sign(), 0.0)

    def keeps(self, similarity: Tensor) -> Tensor:
        """Whether a pair of this similarity is kept; none is whose similarity is NaN, not known."""
        if self.kept == "all":
            return ~similarity.isnan()
        size, far = similarity.abs(), self.threshold
        return {
            "low": lambda: size < far,
            "high": lambda: size > far,
            "high_positive": lambda: similarity > far,
            "positive": lambda: (similarity > far) | (size < far),
            "negative": lambda: (similarity < -far) | (size < far),
            "double": lambda: (size > far) | (size < self.lower),
        }[self.kept]()
