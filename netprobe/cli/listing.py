"""`netprobe defenses`, `perturbations`, ...: what there is by name, and its settings."""

from __future__ import annotations

from collections.abc import Mapping

import click


@click.command()
def defenses() -> None:
    """List the defenses and their settings.

    A defense is written NAME:SETTING=VALUE,...; numbers may be fractions. For example:

    \b
    pgd-at:eps=8/255,steps=10
    trades:eps=8/255,beta=6
    """
    from netprobe.defenses import DEFENSES

    _list_settings(DEFENSES)


@click.command()
def regularisers() -> None:
    """List the regularisers and their settings.

    A regulariser joins any defense: `netprobe train DEFENSE --regularise NAME:SETTING=VALUE,...`. For example:

    \b
    l2:coupling=5e-4
    jacobian:site=hidden,wrt=scaled,projections=3
    spectral:site=relu,alpha=1,tau=10
    similarity:images=imagenet,size=48
    similarity:images=stimuli.npz,split=all,target=neural.npy,threshold=none
    """
    from netprobe.defenses.regularisers import REGULARISERS

    _list_settings(REGULARISERS)


@click.command()
def presets() -> None:
    """List the presets of `netprobe evaluate` and their settings.

    A preset is written NAME:SETTING=VALUE,...; several values of one setting have colons between. For example:

    \b
    black-box
    black-box:parts=noise:boundary,boundary_steps=50:5000,repeats=1
    """
    from netprobe.evaluation.presets import PRESETS

    _list_settings(PRESETS)


@click.command()
def perturbations() -> None:
    """List the perturbations and their settings.

    A perturbation is written NAME:SETTING=VALUE,...; numbers may be fractions. For example:

    \b
    pgd:eps=8/255,steps=40,restarts=5
    pgd:eps=0.5,norm=l2,loss=cw
    gaussian:std=0.1
    """
    from netprobe.perturb import PERTURBATIONS

    _list_settings(PERTURBATIONS)


@click.command()
def metrics() -> None:
    """List the metrics and their settings.

    `--metrics` takes names, with commas between them; settings are given in Python.
    """
    from netprobe.metrics import METRICS

    _list_settings(METRICS)


def _list_settings(kinds: Mapping[str, type]) -> None:
    """Every class by its name: what it is, its settings and their defaults; and what is wrong with plug-ins."""
    from netprobe.errors import NetprobeError

    for name in kinds:
        try:
            kind = kinds[name]
        except NetprobeError as error:
            click.echo(f"{name}: {error}")
        else:
            click.echo(f"{name}: {_told(kind)}")
    for fault in getattr(kinds, "shadowed", ()):
        click.echo(fault)


def _told(kind: type) -> str:
    """The first line of what a dataclass says of itself, one of its settings with their defaults, and its examples."""
    import dataclasses

    said = (kind.__doc__ or "").strip().partition("\n")[0]
    shown = (f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default}" for f in dataclasses.fields(kind))
    examples = (f"\n    for example {spec}" for spec in getattr(kind, "examples", ()))
    return f"{said}\n    {', '.join(shown)}{''.join(examples)}"
