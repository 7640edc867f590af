"""Sweeps on the command line: "[NAME=]SPEC SETTING=VALUE,VALUE,...", and all corruptions at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from netprobe.cli.options import named_perturbations, whole_numbers
from netprobe.errors import NetprobeError

FORM = '"pgd:steps=20 eps=0,2/255,4/255,8/255"'


def swept(texts: Iterable[str]) -> dict[str, Callable]:
    """The perturbations of several sweeps, by name: "pgd@2/255", or "NAME@2/255" where the sweep is named."""
    found: dict[str, Callable] = {}
    for text in texts:
        _join(found, _sweep(text))
    return found


def _sweep(text: str) -> dict[str, Callable]:
    from netprobe.perturb import sweep

    try:
        spec, varied = text.split()
        setting, values = varied.split("=")
    except ValueError:
        raise NetprobeError(f"cannot read the sweep {text!r}: write {FORM}") from None
    name, spec = _named(spec)
    found = sweep(spec, **{setting: values.split(",")})
    return {f"{name}@{each.partition('@')[2]}" if name else each: p for each, p in found.items()}


def _named(spec: str) -> tuple[str, str]:
    """NAME=SPEC: the first "=" comes before the ":" of the settings."""
    given, _, rest = spec.partition("=")
    return (given, rest) if rest and ":" not in given else ("", spec)


def severities(text: str | None) -> list[int]:
    """The severities in "3", "1,3,5" or "1-5"; none in None."""
    return whole_numbers(text or "", "severities", "3, or 1,3,5, or 1-5")


def _join(found: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, perturbation in more.items():
        if name in found:
            raise NetprobeError(f"two perturbations are called {name!r}; name one of them: NAME=SPEC")
        found[name] = perturbation


def all_perturbations(
    perturb: Iterable[str],
    sweep: Iterable[str],
    corruptions: str | None,
    shape: tuple[int, ...],
    preset: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What --perturb, --sweep, --corruptions and --preset ask for, by name; without any, what --perturb takes alone.

    `shape` is that of an input: images without colour have fewer corruptions. `preset` is what it comes to.
    """
    asked, more = tuple(perturb), sweep or corruptions or preset
    found: dict[str, Any] = dict(named_perturbations(asked)) if asked or not more else {}
    _join(found, swept(sweep))
    _join(found, preset or {})
    if chosen := severities(corruptions):
        from netprobe.evaluation import corruptions as every

        _join(found, every(chosen, channels=shape[0]))
    return found
