"""Errors that name the value, the valid choices (closest first) and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NetprobeError(ValueError):
    """A mistake in what the user asked for; the message says what to change."""


class MissingData(NetprobeError):
    """A data set that is not where it was looked for, or is damaged."""


class MissingLibrary(NetprobeError):
    """An optional library that is not installed."""


class CheckpointError(NetprobeError):
    """A checkpoint that does not fit the model, or that would have to execute code to be read."""


def closest(value: object, choices: Iterable[object], n: int | None = None) -> list[str]:
    """`choices` as strings, most similar to `value` first; the first `n` of them if `n` is given."""

    def distance(choice: str) -> float:
        return -difflib.SequenceMatcher(None, str(value).lower(), choice.lower()).ratio()

    return sorted(map(str, choices), key=distance)[:n]


def unknown(kind: str, value: object, choices: Iterable[object], remedy: str = "", shown: int = 12) -> NetprobeError:
    """The error for a `kind` called `value` that is none of `choices`: raise what this returns."""
    ordered = closest(value, choices)
    listing = ", ".join(ordered[:shown]) + (f", ... ({len(ordered)} in all)" if len(ordered) > shown else "")
    hint = f"did you mean {ordered[0]!r}? " if ordered else ""
    return NetprobeError(f"unknown {kind} {value!r}: {hint}valid choices: {listing or 'none'}. {remedy}".rstrip())
