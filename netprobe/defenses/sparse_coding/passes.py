"""The backward passes of the sparse code, by name: what replaces the gradient of each of its three steps."""

from __future__ import annotations

from typing import NamedTuple

from netprobe.defenses.front_end import BYPASS
from netprobe.errors import unknown

FRONT_END = "front-end"
"""The whole front end is taken for the identity (W-AIGA of the paper): its output has the shape of its input."""
UNDROPPED = "undropped"


class Replaced(NamedTuple):
    """What gradients pass through, step by step; values are always those of the exact steps.

    quantiser  "smooth" (hyperbolic tangents) or "identity"
    support    "top": the T coefficients that are kept; "topu": the U largest, U above T; "all": every one
    undropped  whether coefficients that dropout has removed pass gradients as if they were there
    """

    quantiser: str
    support: str
    undropped: bool = False


# The strongest first: Bakiskan 2022, tables B.4 and B.5.
NAMED = {
    "smooth-topu": Replaced("smooth", "topu"),
    "smooth": Replaced("smooth", "top"),
    "smooth-all": Replaced("smooth", "all"),
    "identity-topu": Replaced("identity", "topu"),
    "identity": Replaced("identity", "top"),
    "identity-all": Replaced("identity", "all"),
}
WHILE_DROPPING = {f"{name}-{UNDROPPED}": each._replace(undropped=True) for name, each in NAMED.items()}


def passes(random: bool) -> tuple[str, ...]:
    """All there are, for a front end with dropout or without."""
    return (*NAMED, *(WHILE_DROPPING if random else ()), FRONT_END, BYPASS)


def check_passes(names: tuple[str, ...], random: bool) -> tuple[str, ...]:
    """`names` if there are such passes, at least one."""
    for name in names or ("none",):
        if name not in passes(random):
            raise unknown("backward pass", name, passes(random))
    return tuple(names)


def replaced(name: str) -> Replaced:
    """What the pass of that name replaces in the code."""
    return (NAMED | WHILE_DROPPING)[name]
