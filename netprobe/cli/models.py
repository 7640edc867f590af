"""Models on the command line: `[NAME=]WHAT[@CHECKPOINT][,setting=value...]`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netprobe.cli.options import inputs
from netprobe.errors import NetprobeError
from netprobe.fields import literal

FORM = """A MODEL is [NAME=]WHAT[@CHECKPOINT][,SETTING=VALUE...].

\b
  WHAT        resnet20 and other architectures of ours, torchvision:NAME, timm:NAME,
              package.module:callable or path/file.py:callable (which is executed);
              or a bare checkpoint file, with --arch; one that `netprobe train` wrote needs nothing else
  CHECKPOINT  a state dict of torch.save or safetensors, wrapped or not
  SETTING     normalize, num_classes, key, or an argument of the architecture"""

LOADING = ("arch", "normalize", "num_classes", "key", "unsafe")
"""The flags that say how to load."""


@dataclass(frozen=True)
class ModelArgument:
    """What the command line says of one model."""

    name: str
    what: str
    checkpoint: str | None
    settings: dict[str, Any]


def parse(text: str, arch: str | None = None) -> ModelArgument:
    """Read one MODEL argument; `arch` is what a bare checkpoint file holds."""
    body, settings = _settings(text)
    name, body = _named(body)
    what, _, checkpoint = body.partition("@")
    if not checkpoint and ":" not in what and Path(what).suffix and Path(what).exists():
        if arch is None and not _says_what_it_holds(Path(what)):
            raise NetprobeError(f"{what!r} is a checkpoint; say what it holds: --arch resnet20, or resnet20@{what}")
        what, checkpoint = (arch, what) if arch else (what, "")
    return ModelArgument(name or _default_name(what, checkpoint), what, checkpoint or None, settings)


def _says_what_it_holds(path: Path) -> bool:
    from netprobe.training.rebuilding import trained_contents

    return trained_contents(path) is not None


def new_network(
    text: str, loading: Mapping[str, Any], data: Any, seed: int, channels: int | None = None
) -> tuple[Any, ModelArgument]:
    """The network of one MODEL argument for training on `data`, weights random from the seed unless it names some.

    `loading` are the flags that say how to load; `channels` its inputs, if they are not those of the images.
    """
    from netprobe.training.initial import initial

    argument = parse(text, loading["arch"])
    given = {name: value for name, value in loading.items() if value and name != "arch"} | argument.settings
    if argument.checkpoint:
        given["checkpoint"] = argument.checkpoint
    return initial(argument.what, data, seed, channels=channels, **given), argument


def _named(body: str) -> tuple[str, str]:
    found = re.match(r"([^=@:/\\]+)=(.+)", body)
    return (found[1], found[2]) if found else ("", body)


def _settings(text: str) -> tuple[str, dict[str, Any]]:
    """Split off the trailing ",setting=value" parts."""
    body, *parts = re.split(r",(?=[A-Za-z_]\w*=)", text)
    settings = dict(part.split("=", 1) for part in parts)
    if "normalize" in settings:
        settings["normalize"] = normalization(settings["normalize"])
    return body, {k: literal(v) if isinstance(v, str) else v for k, v in settings.items()}


def normalization(text: str | None) -> Any:
    """A name as it is, "MEAN:STD" as a pair of tuples, "none" and None as None."""
    if text is None or text == "none":
        return None
    if ":" not in text:
        return text
    try:
        mean, std = (tuple(float(v) for v in part.split(",")) for part in text.split(":"))
    except ValueError:
        raise NetprobeError(f"cannot read the normalisation {text!r}: write imagenet, cifar10 or MEAN:STD") from None
    return mean, std


def _default_name(what: str, checkpoint: str) -> str:
    if not checkpoint and Path(what).is_file():  # runs/natural/best.pt is called natural
        return Path(what).resolve().parent.name if Path(what).stem in ("best", "last") else Path(what).stem
    return Path(checkpoint).stem if checkpoint else what.rpartition(":")[2].rpartition("/")[2]


def load_all(arguments: Sequence[str], arch: str | None, **defaults: Any) -> dict[str, Any]:
    """The models by name; what an argument does not set is taken from `defaults`."""
    from netprobe.checkpoints import load

    parsed = [parse(text, arch) for text in arguments]
    names = [model.name for model in parsed]
    for name in names:
        if names.count(name) > 1:
            raise NetprobeError(f"several models are called {name!r}; give each its own name: NAME=WHAT@CHECKPOINT")
    given = {key: value for key, value in defaults.items() if value is not None}
    return {m.name: load(m.what, m.checkpoint, **(given | m.settings)) for m in parsed}


def loaded(models: Sequence[str], loading: dict[str, Any]) -> dict[str, Any]:
    """The models that arguments name, as the flags of `LOADING` say."""
    settings = loading | {"normalize": normalization(loading["normalize"]), "unsafe": loading["unsafe"] or None}
    return load_all(models, settings.pop("arch"), **settings)


def models_and_data(models: tuple[str, ...], options: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """What was named, loaded; its options are taken out of `options`."""
    networks = loaded(models, {key: options.pop(key) for key in LOADING})
    return networks, inputs(options, options["seed"])
