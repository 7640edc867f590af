"""Regularisers by name, and as text: "jacobian:site=hidden,coupling=1e-3"."""

from __future__ import annotations

from netprobe.defenses.regularisers.base import Regulariser
from netprobe.defenses.regularisers.jacobian import Jacobian
from netprobe.defenses.regularisers.l2 import L2
from netprobe.defenses.regularisers.similarity.regulariser import Similarity
from netprobe.defenses.regularisers.spectral import Spectral
from netprobe.defenses.regularisers.spectral_norm import SpectralNorm
from netprobe.enrolled import Enrolled
from netprobe.specs import Catalogue

REGULARISERS = Enrolled("regulariser", Regulariser, (L2, Jacobian, Spectral, SpectralNorm, Similarity))
_KIND = Catalogue("regulariser", Regulariser, REGULARISERS, "jacobian:site=hidden")


def parse_regulariser(spec: str | Regulariser) -> Regulariser:
    """The regulariser that a spec like "l2:coupling=5e-4" names; a regulariser is returned as it is.

    >>> from netprobe.defenses import regularisers
    >>> regularisers.parse_regulariser("jacobian:coupling=0.1,site=hidden")
    Jacobian(coupling=0.1, site='hidden')
    """
    return _KIND.parse(spec)


def regulariser_spec(regulariser: Regulariser) -> str:
    """The shortest spec that `parse_regulariser` reads back as an equal one."""
    return _KIND.spec(regulariser)


def describe_regulariser(regulariser: Regulariser) -> dict[str, object]:
    """Its name and every setting, in JSON's terms; the class too, where it is none of ours."""
    return _KIND.describe(regulariser)
