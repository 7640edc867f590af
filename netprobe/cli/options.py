"""Flags made from the dataclasses that the Python API uses, and arguments that several verbs share."""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

import click

from netprobe.errors import NetprobeError
from netprobe.recipes import PRESETS, Recipe
from netprobe.settings import EvaluateSettings, GeometrySettings, ProbeSettings, WeightsSettings


def flags_of(settings: type, defaults: bool = True, without: Collection[str] = ()) -> Callable[[Callable], Callable]:
    """Decorate a command with one flag for each field of the dataclass but those `without`; its help is the field's.

    Without `defaults` a flag that is not given is None: what it stands for is decided elsewhere.
    """
    hints = typing.get_type_hints(settings)

    def decorate(command: Callable) -> Callable:
        for field in (each for each in reversed(dataclasses.fields(settings)) if each.name not in without):
            options = _kind(field, hints[field.name]) | ({} if defaults else {"default": None, "show_default": False})
            command = click.option(*_names(field, hints[field.name]), **options)(command)
        return command

    return decorate


def _names(field: dataclasses.Field, hint: Any) -> list[str]:
    flag = field.name.replace("_", "-")
    short = [f"-{field.metadata['short']}"] if "short" in field.metadata else []
    return [*short, f"--{flag}/--no-{flag}" if bool in (hint, *typing.get_args(hint)) else f"--{flag}", field.name]


def _kind(field: dataclasses.Field, hint: Any) -> dict[str, Any]:
    options = {"default": field.default, "help": field.metadata["help"], "show_default": field.default is not None}
    if bool in (hint, *typing.get_args(hint)):
        return options
    several = typing.get_origin(hint) is tuple  # written with commas, and read by the setting itself
    number = None if several else next((t for t in (int, float) if t in (hint, *typing.get_args(hint))), None)
    return options | {"type": number or str}


probe_flags = flags_of(ProbeSettings)
similarity_flags = flags_of(ProbeSettings, without=("metrics", "shard", "compile"))
weights_flags = flags_of(WeightsSettings)
evaluate_flags = flags_of(EvaluateSettings)
geometry_flags = flags_of(GeometrySettings)
recipe_flags = flags_of(Recipe, defaults=False)
sweep_recipe_flags = flags_of(Recipe, defaults=False, without=("seed",))  # each cell has a seed of its own


def form_flags(command: Callable) -> Callable:
    """--size, --channels, --length: what form inputs of a folder are brought to."""
    command = click.option("--channels", type=int, help="1: grey, 3: colour; of images")(command)
    command = click.option("--length", type=int, help="samples of every recording of a folder of words")(command)
    return click.option("--size", type=int, help="side to resize images of a folder to")(command)


def inputs(options: dict[str, Any], seed: int, part: str | None = None) -> Any:
    """The data that the flags of `data_flags` name, which are taken out of `options`; None if they name none.

    `part` is taken where no split was asked for.
    """
    from netprobe.data import load

    data, split = options.pop("data"), options.pop("split") or part
    settings = {key: options.pop(key) for key in ("limit", "size", "channels", "length")}
    return None if data is None else load(data, split, seed=seed, **settings)


def data_flags(command: Callable, required: bool = True, part: str = "the held-out one") -> Callable:
    """--data, --split, --limit and those of `form_flags`: which inputs; `part` is what is taken without --split."""
    command = form_flags(command)
    for option in (
        click.option("--limit", type=int, help="so many images, every class its share"),
        click.option("--split", help=f"part of the data set; by default {part}"),
        click.option(
            "--data", required=required, help="name, folder, word folder or .npz file; see netprobe.data.load"
        ),
    ):
        command = option(command)
    return command


optional_data_flags = functools.partial(data_flags, required=False)
training_data_flags = functools.partial(data_flags, part="train")


def model_flags(command: Callable) -> Callable:
    """--arch, --normalize, --num-classes, --key, --unsafe: how to load models whose own settings do not say."""
    for option in (
        click.option("--unsafe", is_flag=True, help="unpickle checkpoints, which runs code of their authors"),
        click.option("--key", help="where in a checkpoint the state dict is, if not in the usual place"),
        click.option("--num-classes", type=int, help="number of classes, if the checkpoint does not tell"),
        click.option("--normalize", help="imagenet, cifar10, or MEAN:STD with commas between channels"),
        click.option("--arch", help="architecture of models that are given as a bare checkpoint"),
    ):
        command = option(command)
    return command


perturb_flag = click.option(
    "--perturb",
    "perturbations",
    multiple=True,
    metavar="[NAME=]SPEC",
    help="such as pgd:eps=8/255,steps=20 or noise=gaussian:std=0.1; repeatable; `netprobe perturbations` lists all",
)


preset_flag = click.option(
    "--preset",
    type=click.Choice(PRESETS),
    default="paper",
    show_default=True,
    help="values of the recipe's settings that are not given: those of the papers, or minutes on two cores",
)


def sweep_flags(command: Callable) -> Callable:
    """--sweep, --corruptions: many strengths at once."""
    command = click.option(
        "--corruptions",
        metavar="SEVERITIES",
        help="the common corruptions (19; fewer of grey images) at these severities: 3, or 1,3,5, or 1-5",
    )(command)
    return click.option(
        "--sweep",
        multiple=True,
        metavar="'[NAME=]SPEC SETTING=VALUES'",
        help='one setting varied, for curves: "pgd:steps=20 eps=0,2/255,4/255,8/255"; repeatable',
    )(command)


def evaluation_preset_flags(command: Callable) -> Callable:
    """--preset, --surrogate: a whole evaluation by name."""
    command = click.option(
        "--surrogate",
        multiple=True,
        metavar="MODEL",
        help="what the preset's transferred attacks are made against: a network trained with another seed; repeatable",
    )(command)
    return click.option(
        "--preset",
        metavar="NAME[:SETTING=VALUE,...]",
        help="a whole evaluation, such as black-box or black-box:parts=noise:boundary,boundary_steps=5000; "
        "`netprobe presets` lists settings",
    )(command)


def named_perturbations(specs: tuple[str, ...]) -> Mapping[str, str]:
    """Specs by name where they are named: "noise=gaussian:std=0.1"."""
    named = {}
    for spec in specs or ("pgd:eps=8/255,steps=20", "gaussian:std=0.1"):
        given, _, rest = spec.partition("=")
        kind = spec.partition(":")[0]
        if rest and ":" not in given:  # NAME=SPEC: the first "=" comes before the ":" of the settings
            kind, spec = given, rest
        named[spec if kind in named else kind] = spec
    return named


def whole_numbers(text: str, kind: str, examples: str) -> list[int]:
    """The numbers in "3", "1,3,5", "1-5" or several of these; `kind` and `examples` are for the message of an error."""
    found: list[int] = []
    for part in filter(None, re.split(r"[,\s]+", text)):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (not last or last.isdigit())):
            raise NetprobeError(f"cannot read the {kind} {text!r}: write {examples}")
        found += range(int(first), int(last or first) + 1)
    return found


def interrupted(kept: str) -> NoReturn:
    """End after a Ctrl-C: the file `kept` holds what was done."""
    click.echo(f"interrupted; {kept} holds what was done, and the same command goes on from there", err=True)
    sys.exit(130)


def errors_as_usage(command: Callable) -> Callable:
    """Show a NetprobeError as one message, without a traceback, and exit with 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except NetprobeError as error:
            raise click.UsageError(str(error)) from error

    return wrapped


def input_shape(text: str) -> tuple[int, ...]:
    """The shape of one input, as --input has it."""
    try:
        return tuple(int(n) for n in text.split(","))
    except ValueError:
        raise NetprobeError(f"--input {text!r}: write the shape of one input, for example 3,32,32") from None
