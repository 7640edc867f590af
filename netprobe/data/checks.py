"""Checks of arguments that several files share."""

from __future__ import annotations

import operator

from netprobe.errors import NetprobeError


def whole_number(value: object, what: str) -> int:
    """`value` as an int of at least 1, or an error that says what it was meant to be."""
    try:
        number = operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise NetprobeError(f"{what} must be a whole number, at least 1; got {value!r}")
    return number
