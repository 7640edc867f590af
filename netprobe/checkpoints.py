"""`load`: from the name of a network and the file of its weights to a module ready to be probed."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netprobe.errors import CheckpointError, NetprobeError
from netprobe.models import ARCHITECTURES, Normalized
from netprobe.models.normalize import Normalization, statistics
from netprobe.models.reading import digest, existing, read
from netprobe.models.sources import FORMS, Blueprint, blueprint, unwrapped
from netprobe.models.state_dicts import Fit, Found, find, find_module, fit, renamed, same_names, split_normalization

logger = logging.getLogger(__name__)

Statistics = tuple[Tensor, Tensor]


def load(
    what: str | nn.Module | Callable[..., nn.Module] | None,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    normalize: Normalization | None = None,
    num_classes: int | None = None,
    strict: bool = True,
    unsafe: bool = False,
    key: str | None = None,
    names: Mapping[str, str] | None = None,
    **arguments: Any,
) -> nn.Module:
    """A network with its weights: on the CPU, in eval mode, for inputs in [0, 1].

    Parameters
    ----------
    what : a name in `models.ARCHITECTURES`; `torchvision:NAME` or `timm:NAME` (random weights unless `weights=` or
        `pretrained=` asks their library for its own); `package.module:callable`; `path/to/file.py:callable`, which
        executes that file with its folder on the import path; a callable; or an nn.Module, of which a copy is made.
        The path of a checkpoint that `netprobe train` wrote stands for itself, and needs nothing else.
        None with `unsafe` if the checkpoint is a pickled module.
    checkpoint : a file of torch.save or safetensors that holds a state dict, bare or under the usual names
        (`state_dict`, `model`, `net`, `model_state_dict`, ..., averages such as `ema` last), with or without the
        prefixes of wrappers (`module.`, `_orig_mod.`, `model.`, `net.`). None leaves the weights as built.
    normalize : "imagenet", "cifar10" or (mean, std) in units of [0, 1], put in front of the network as
        `models.Normalized`; None for a network that takes [0, 1] itself. The statistics that a normalising wrapper
        saved beside the weights are used without being asked for, and must not contradict `normalize`.
    num_classes : passed on to what builds the network. None takes the number of the checkpoint, where its last
        layer alone does not fit and the network can be built with another number.
    strict : whether missing, unexpected and misshapen tensors are errors; otherwise what fits is loaded and a
        warning names the rest.
    unsafe : whether a checkpoint that is more than tensors is unpickled, which runs code of its author.
        Without it a checkpoint never executes anything.
    key : where in the checkpoint the state dict is, if not in the usual place: "ema", "teacher.state_dict".
    names : where the checkpoint calls things otherwise: {"frontend.conv": "front.filters", "net": "classifier"}
        replaces what names in it begin with; "" stands for the beginning of any.
    arguments : passed on, by keyword, to what builds the network.

    Returns
    -------
    The network, a `models.Normalized` around it if it normalises. Its attribute `netprobe_source` is a dict, ready
    for JSON, of where it came from: `what`, `checkpoint` and its `checkpoint_sha256`, `normalize` (mean and std or
    None), `num_classes` and `arguments` as given or found, and how the state dict was read: its `key` in the
    file, the `other_keys` that held tensors too, the `prefix` dropped, `ignored` entries that are no tensors, and
    the tensors `skipped` for not fitting.

    Raises
    ------
    CheckpointError for a file that is missing, damaged, unsafe or does not fit; NetprobeError for anything else
    in the arguments. Both say what to change.

    >>> import torch
    >>> import netprobe as npb
    >>> net = npb.load("digits_cnn", normalize=(0.5, 0.25))  # random weights: no checkpoint is given
    >>> type(net).__name__, net.training, net(torch.rand(2, 1, 8, 8)).shape
    ('Normalized', False, torch.Size([2, 10]))
    """
    if checkpoint is None and (contents := _trained(what)) is not None:
        given = {"normalize": normalize, "num_classes": num_classes, "key": key, "names": names, **arguments}
        return _rebuilt(contents, Path(what), [name for name, value in given.items() if value is not None])
    asked = None if normalize is None else statistics(normalize)
    if what is None:
        given = {"num_classes": num_classes, "names": names}
        given = {name: value for name, value in given.items() if value is not None} | arguments
        loaded = _pickled(checkpoint, unsafe, key, given)
    elif checkpoint is None:
        for name, value in (("key", key), ("names", names)):
            if value is not None:
                raise NetprobeError(f"{name}={value!r} says how to read a checkpoint, but there is no checkpoint")
        plan = blueprint(what)
        loaded = _Loaded(plan.build(num_classes, arguments), {"what": plan.label, "num_classes": num_classes})
    else:
        plan, found = blueprint(what), _found(checkpoint, unsafe, key, names)
        loaded = _weighted(plan, checkpoint, num_classes, arguments, strict, found)
    model = _normalized(loaded.model, asked, loaded.carried)
    model = _single_precision(model).cpu().eval()
    model.netprobe_source = {
        **loaded.source,
        "arguments": json.loads(json.dumps(arguments, default=repr)),
        **_file_record(checkpoint),
        "normalize": _numbers((model.normalize.mean, model.normalize.std)) if isinstance(model, Normalized) else None,
    }
    return model


def _trained(what: object) -> dict[str, Any] | None:
    """What the file holds, if `what` is the path of a checkpoint which says itself what it holds."""
    if not isinstance(what, str | os.PathLike) or what in ARCHITECTURES or not Path(what).is_file():
        return None
    from netprobe.training.rebuilding import trained_contents

    return trained_contents(Path(what))


def _rebuilt(contents: dict[str, Any], path: Path, given: list[str]) -> nn.Module:
    from netprobe.training.rebuilding import rebuilt

    if given:
        raise NetprobeError(f"{path} says itself what it holds: leave out {', '.join(given)}")
    model = rebuilt(contents, path)
    model.netprobe_source |= _file_record(path)
    return model


@dataclass(frozen=True)
class _Loaded:
    """A network, what `netprobe_source` says of it, and the normalisation that was saved beside its weights."""

    model: nn.Module
    source: dict[str, Any]
    carried: Statistics | None = None


def _weighted(
    plan: Blueprint,
    checkpoint: str | os.PathLike[str],
    num_classes: int | None,
    arguments: dict[str, Any],
    strict: bool,
    found: Found,
) -> _Loaded:
    """The network of `plan` with the weights that were `found` in the file."""
    logger.info(
        "%s: state dict at %r; others at %s; no tensors: %s",
        *(checkpoint, found.where, list(found.others), list(found.ignored)),
    )
    model, fitted, carried = _filled(plan.build(num_classes, arguments), found)
    if num_classes is None and fitted.classes is not None and plan.takes("num_classes"):
        num_classes = fitted.classes
        logger.info("%s has %d classes, and so has %s now", checkpoint, num_classes, plan.label)
        model, fitted, carried = _filled(plan.build(num_classes, arguments), found)
    if not fitted.complete:
        message = _misfit(plan, checkpoint, found, fitted)
        if strict or not fitted.matched:
            raise CheckpointError(message)
        logger.warning("%s", message)
    source = {
        "what": plan.label,
        "num_classes": num_classes,
        "key": found.where,
        "other_keys": list(found.others),
        "prefix": fitted.prefix,
        "ignored": list(found.ignored),
        "skipped": [*fitted.missing, *fitted.unexpected, *fitted.misshapen],
    }
    return _Loaded(model, source, carried)


def _found(checkpoint: str | os.PathLike[str], unsafe: bool, key: str | None, names: Mapping[str, str] | None) -> Found:
    """The state dict of the file, under the names that were asked for."""
    found = find(read(checkpoint, unsafe), key, checkpoint)
    return renamed(found, names, checkpoint) if names else found


def _filled(model: nn.Module, found: Found) -> tuple[nn.Module, Fit, Statistics | None]:
    net = model.net if isinstance(model, Normalized) else model
    state, carried = split_normalization(found.state, net)
    return model, fit(net, state), carried


def _misfit(plan: Blueprint, checkpoint: object, found: Found, fitted: Fit) -> str:
    """What does not fit, the likeliest reasons first."""
    lines = [f"{checkpoint} does not fit {plan.label}: {fitted.summary()}."]
    if fitted.classes is not None:
        remedy = f"pass num_classes={fitted.classes}" if plan.takes("num_classes") else "build the network with as many"
        lines.append(f"The checkpoint has {fitted.classes} classes: {remedy}.")
    elif fitted.matched < len(fitted.missing) + len(fitted.misshapen):
        ours = _architectures_with_names_of(found)
        known = f"; its names are those of {', '.join(ours)}" if ours else ""
        lines.append(f"It is likely the checkpoint of another architecture{known}.")
    if found.others:
        lines.append(f"Read from {found.where or 'the top'}; also there: {', '.join(found.others)} (choose with key=).")
    lines.append("strict=False loads what fits." if fitted.matched else "Nothing fits.")
    return "\n".join(lines) + "\n" + fitted.listing()


def _architectures_with_names_of(found: Found) -> list[str]:
    with torch.device("meta"):  # names only: no memory, no random numbers
        return [name for name, build in ARCHITECTURES.items() if same_names(build(), found.state)]


def _pickled(checkpoint: object, unsafe: bool, key: str | None, given: dict[str, Any]) -> _Loaded:
    """The module that the file holds whole; there is nothing to build, so arguments for that are errors."""
    if checkpoint is None:
        raise NetprobeError(f"nothing to load: name a network, one of {', '.join(ARCHITECTURES)}. {FORMS}")
    for name, value in given.items():
        raise NetprobeError(f"{name}={value!r} has no effect without a network to build: {checkpoint} would be whole")
    contents = read(checkpoint, unsafe)
    model = find_module(contents, key)
    if model is None:
        found = find(contents, key, checkpoint)
        ours = _architectures_with_names_of(found)
        known = f"its names are those of {', '.join(ours)}" if ours else f"one of {', '.join(ARCHITECTURES)}. {FORMS}"
        raise NetprobeError(f"{checkpoint} holds weights only: say which architecture they belong to: {known}")
    return _Loaded(unwrapped(model), {"what": blueprint(model).label, "num_classes": None})


def _normalized(model: nn.Module, asked: Statistics | None, carried: Statistics | None) -> nn.Module:
    """`model` behind the normalisation that it has, that its file carries or that was asked for; all must agree."""
    own = (model.normalize.mean, model.normalize.std) if isinstance(model, Normalized) else None
    given = {"in the model": own, "in the checkpoint": carried, "asked for": asked}
    given = {where: pair for where, pair in given.items() if pair is not None}
    if not all(_agree(*pair) for pair in itertools.pairwise(given.values())):
        listing = "; ".join(f"{where}: {_numbers(pair)}" for where, pair in given.items())
        raise NetprobeError(f"the normalisations contradict each other: {listing}. Leave normalize out, or correct it")
    return model if own is not None or not given else Normalized(model, *next(iter(given.values())))


def _agree(one: Statistics, other: Statistics) -> bool:
    """To 1e-3: everyone rounds the statistics of CIFAR-10 a little differently."""
    sizes = {len(mean) for mean, _ in (one, other)} - {1}
    return len(sizes) <= 1 and all(torch.allclose(a, b, rtol=0, atol=1e-3) for a, b in zip(one, other, strict=True))


def _numbers(pair: Statistics) -> dict[str, list[float]]:
    """Mean and std as decimal numbers; the nearest double of a float32 would show digits nobody gave."""
    mean, std = ([round(value, 7) for value in vector.tolist()] for vector in pair)
    return {"mean": mean, "std": std}


def _single_precision(model: nn.Module) -> nn.Module:
    """Data is float32: a module kept in half precision would refuse it."""
    halves = {torch.float16, torch.bfloat16}
    return model.float() if any(p.dtype in halves for p in model.parameters()) else model


def _file_record(checkpoint: str | os.PathLike[str] | None) -> dict[str, str | None]:
    if checkpoint is None:
        return {"checkpoint": None, "checkpoint_sha256": None}
    return {"checkpoint": str(checkpoint), "checkpoint_sha256": digest(existing(checkpoint))}
