"""What a law is: a sentence, a check that tells what it saw, and how it is usually broken."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Law:
    """A law that subjects of one kind keep; called with one, it is an AssertionError if that one does not.

    statement : the law, in words.
    usually : how it is usually broken.
    check : raises AssertionError, with what was seen, for a subject that breaks it.
    applies : whether a subject comes under it.
    vital : whether nothing else is worth checking on a subject that breaks it.
    """

    name: str
    statement: str
    usually: str
    check: Callable[[Any], None]
    applies: Callable[[Any], bool]
    vital: bool = False

    def __call__(self, subject: Any) -> None:
        try:
            self.check(subject)
        except AssertionError as seen:
            raise AssertionError(self._told(subject, str(seen))) from seen
        except Exception as error:
            raise AssertionError(self._told(subject, f"{type(error).__name__}: {error}")) from error

    def _told(self, subject: Any, seen: str) -> str:
        parts = {"law": self.statement, "seen": seen, "usually broken by": self.usually}
        told = (textwrap.indent(f"{name}: {' '.join(text.split())}", "    ") for name, text in parts.items())
        return "\n".join([f"{subject} breaks {self.name}", *told])


def law(usually: str, applies: Callable[[Any], bool] = lambda subject: True, vital: bool = False) -> Callable:
    """Make a law of a function that checks it; its docstring is the statement."""

    def made(check: Callable[[Any], None]) -> Law:
        return Law(check.__name__, check.__doc__ or "", usually, check, applies, vital)

    return made


def check_laws(laws: Iterable[Law], subject: Any) -> tuple[str, ...]:
    """Check those that apply; one AssertionError tells all that are broken. Returns the names of those checked."""
    checked, broken = [], []
    for each in (each for each in laws if each.applies(subject)):
        checked.append(each.name)
        try:
            each(subject)
        except AssertionError as fault:
            broken.append(str(fault))
            if each.vital:
                break
    if broken:
        raise AssertionError("\n\n".join([f"{len(broken)} of {len(checked)} laws are broken", *broken]))
    return tuple(checked)


def demand(kept: object, seen: str) -> None:
    """An AssertionError with what was seen, if it was not as it should be (`assert` is no check under python -O)."""
    if not kept:
        raise AssertionError(seen)
