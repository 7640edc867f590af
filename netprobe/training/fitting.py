"""`fit`: train a network with a defense and a recipe."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netprobe import data as datasets
from netprobe.data import Data
from netprobe.defenses import Defense, describe_defense
from netprobe.defenses.overfitting import robust_overfitting
from netprobe.defenses.regularisers import Regulariser, Subject
from netprobe.devices import device_of, preferred_device
from netprobe.errors import CheckpointError, NetprobeError
from netprobe.processes import processes
from netprobe.recipes import Recipe, preset
from netprobe.store import made_folder, model_card, source_of, versions
from netprobe.training.choosing import best_index
from netprobe.training.device_data import DeviceData
from netprobe.training.initial import architecture_of, check_fit, defended, initial
from netprobe.training.keeping import Keeper
from netprobe.training.loop import Loop
from netprobe.training.regularising import Regularisation, asked, by_contents, described, settings_apart
from netprobe.training.saved import BEST, CARD, LAST, epoch_file, read_checkpoint, stage_file
from netprobe.training.trained import Trained, history_dataset
from netprobe.training.validation import Validation

AT_ONCE = 1024
"""Images that are augmented at a time."""
IRRELEVANT = ("save_every", "keep_epochs")
"""Settings that do not change what is learnt."""


def fit(
    defense: str | Defense | Regulariser,
    model: str | nn.Module,
    data: str | Data,
    recipe: str | Recipe | None = None,
    *,
    regularise: str | Regulariser | Sequence[str | Regulariser] = (),
    validation: Data | float | None = None,
    out: str | Path | None = None,
    device: str | torch.device | None = None,
    progress: bool = True,
    name: str = "train",
    **settings: Any,
) -> Trained:
    """Train a copy of `model` on `data` with `defense`.

    Parameters
    ----------
    defense : what differs from plain training: a `Defense` or a spec such as "natural" or "pgd-at:eps=8/255,steps=10";
        a regulariser here, such as "similarity:coupling=10", joins natural training.
    model : a network for inputs in [0, 1], which is copied and stays as it is; or a name as for `netprobe.load`, built
        with the classes and channels of the data and random weights of the recipe's seed. Parameters that do not
        require a gradient stay bit for bit as they are; all modules are in train mode during updates.
    data : training images, or the name of a set, of which the part "train" is taken.
    recipe : a `Recipe`, or a preset: "paper" (the default) or "quick"; `settings` change single fields of it.
    regularise : terms that join the loss, whatever the defense: a `Regulariser` or a spec such as "l2:coupling=5e-4" or
        "jacobian:site=hidden", one or several. The history has each by its name, without its coupling, and the loss of
        the defense alone as "unregularised_loss".
    validation : images to choose the best epoch by, or the share of `data` to hold out for that; default: the recipe's.
    out : a folder for last.pt (to go on from), best.pt, epoch-N.pt of the recipe's `keep_epochs`, and history.jsonl.
        The same call goes on from there, also after a kill at any moment, and on a CPU ends with the weights, bit for
        bit, that an undisturbed run ends with.
    device : by default where the model is, and a GPU for a model given by name if there is one.

    Returns
    -------
    Trained. The best epoch is the one of the largest accuracy on validation images, under the defense's own attack if
    it has one (PGD-10 for adversarial training); with criterion="loss" that of their smallest clean loss.

    Under torchrun, batches are shared between the processes; batch norm averages over all of them, so that the result
    is that of one process up to rounding. Same seed, same weights on a CPU.

    Errors: `Diverged` at a loss that is not finite; a folder that holds another training; inputs the model cannot take.

    >>> import netprobe as npb
    >>> digits = npb.data.load("digits", "train", limit=100)
    >>> trained = npb.fit("natural", "digits_cnn", digits, "quick", epochs=2, validation=0.2, progress=False)
    >>> trained.history.validation_accuracy.sizes["epoch"], trained.model.training
    (2, False)
    """
    together, (defense, regularisers) = processes(), asked(defense, regularise)
    train = datasets.load(data, "train") if isinstance(data, str) else data
    defense = defense.completed(train)
    if isinstance(validation, int | float):
        settings["validation"] = validation
    recipe = _recipe(recipe, settings, defense, regularisers, model, train)
    network = initial(model, train, recipe.seed, channels=defense.channels(train.shape[0]))
    wanted = device or (preferred_device() if isinstance(model, str) else None)
    where = torch.device(wanted) if wanted is not None else device_of(network)
    begun = _begun(out)
    card = _card(network, train, defense, recipe, regularisers, begun)
    trained = defended(network, defense, recipe.seed).to(where)
    check_fit(trained, train, where)
    train, held_out, kept = _split(train, validation, recipe)
    card["key"] = _key(card, trained, train, held_out)
    if held_out is None and (recipe.schedule == "plateau" or recipe.patience):
        raise NetprobeError("schedule='plateau' and patience look at validation images: give validation above 0")
    regularisation = _regularisation(regularisers, trained, train, recipe, where, kept)
    attack = defense.validation_attack() if held_out else None
    judge = Validation(held_out, attack, where, recipe.seed, recipe.criterion)
    if recipe.channels_last and train.kind == "image":
        trained = trained.to(memory_format=torch.channels_last)
    keeper = Keeper(card, None if out is None else made_folder(out), together, recipe.save_every)
    if begun is None:  # a training that goes on finds what was learnt then among its weights
        defense.prepare(trained, train, recipe.seed, progress and together.leads, keeper.scratch)
    loop = Loop(defense, trained, _on_device(train, where, recipe), judge, recipe, together, keeper, regularisation)
    if begun is not None:
        _go_on(loop, begun)
    with torch.random.fork_rng([where] if where.type == "cuda" else []):
        loop.run(name, progress)
    return _trained(loop)


def _recipe(
    given: str | Recipe | None,
    settings: dict,
    defense: Defense,
    regularisers: tuple[Regulariser, ...],
    model: Any,
    data: Data,
) -> Recipe:
    if isinstance(given, Recipe):
        return given.with_settings(**settings)
    return preset(given or "paper", defense, architecture_of(model), data.shape, regularisers, **settings)


def _regularisation(
    regularisers: tuple[Regulariser, ...],
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    device: torch.device,
    kept: Tensor,
) -> Regularisation:
    """The penalties for that network, after every check that can be made before training."""
    (some,) = data.select([0, len(data) - 1]).batches(2, device)
    augmented, placed = (
        functools.partial(_augmented, device=device, recipe=how)
        for how in (recipe, recipe.with_settings(augment="none"))
    )
    subject = Subject(model, some.x, len(data), recipe.batch_size, data, augmented, placed, kept)
    made = Regularisation(regularisers, subject).to(device)
    if recipe.compile:
        made.check_compiled()
    return made


def _augmented(images: Data, device: torch.device, recipe: Recipe) -> Tensor:
    """All images on the device, as they are stored, with the crops and flips of the first epoch."""
    there = _on_device(images, device, recipe)
    return torch.cat([there.stored_at(part, 0) for part in torch.arange(len(images), device=device).split(AT_ONCE)])


def _begun(out: str | Path | None) -> dict[str, Any] | None:
    """What the folder has of a training to go on from."""
    return read_checkpoint(Path(out) / LAST) if out is not None and (Path(out) / LAST).exists() else None


def _card(
    network: nn.Module,
    data: Data,
    defense: Defense,
    recipe: Recipe,
    regularisers: tuple[Regulariser, ...],
    begun: dict[str, Any] | None,
) -> dict[str, Any]:
    """What a checkpoint says of itself: how to build the network again, and where the weights come from."""
    source = source_of(network)
    about = {key: source.get(key) for key in ("what", "num_classes", "arguments", "normalize")}
    return {
        "format": 1,
        "network": about | {"class": f"{type(network).__module__}.{type(network).__qualname__}"},
        "defense": describe_defense(defense),
        **({"regularisers": described(regularisers)} if regularisers else {}),
        "recipe": _described(recipe, begun),
        "data": data.describe(),
        "versions": versions(),
    }


def _described(recipe: Recipe, begun: dict[str, Any] | None) -> dict[str, Any]:
    """All settings, without those that recipes lacked when the training was `begun` and whose default is chosen.

    Their defaults are what was done before, so that trainings from before there were any go on.
    """
    every, changed = dataclasses.asdict(recipe), recipe.changed_settings()
    then = every if begun is None else begun[CARD]["recipe"]
    return {name: value for name, value in every.items() if name in then or name in changed}


def _key(card: dict[str, Any], model: nn.Module, data: Data, validation: Data | None) -> str:
    """What the result of training depends on, as a hash."""
    recipe = {name: value for name, value in card["recipe"].items() if name not in IRRELEVANT}
    parts = [card["defense"], recipe, data.hash, validation and validation.hash, model_card(model)["sha256"]]
    if "regularisers" in card:  # trainings from before there were any go on
        parts.append(by_contents(card["regularisers"]))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _split(data: Data, validation: Data | float | None, recipe: Recipe) -> tuple[Data, Data | None, Tensor]:
    """Training images, those held out, and which of `data` (N,) the former are.

    Held out are images of their own, or the recipe's share of `data`, every class its part.
    """
    count, every = round(recipe.validation * len(data)), torch.ones(len(data), dtype=torch.bool)
    if isinstance(validation, Data) or not count:
        return data, validation if isinstance(validation, Data) else None, every
    return *data.parted(count, recipe.seed), ~data.taken(count, recipe.seed)


def _on_device(data: Data, device: torch.device, recipe: Recipe) -> DeviceData:
    return DeviceData(
        data,
        device,
        augment=recipe.augment,
        padding=recipe.padding,
        padding_mode=recipe.padding_mode,
        seed=recipe.seed,
        channels_last=recipe.channels_last and data.kind == "image",
    )


def _go_on(loop: Loop, begun: dict[str, Any]) -> None:
    folder, card = loop.keeper.folder, loop.keeper.card
    if begun[CARD]["key"] != card["key"]:
        raise CheckpointError(
            f"{folder} holds another training ({_difference(begun[CARD], card)}): "
            "give another folder, or delete that one"
        )
    loop.restore(begun.pop("state_dict"), begun.pop("training"))  # large, and of no use any more
    lost = [epoch for epoch in _kept_epochs(loop) if not (folder / epoch_file(epoch)).exists()]
    if lost:
        raise CheckpointError(
            f"{folder} has no network after epoch {', '.join(map(str, lost))}: it was trained without "
            f"keep_epochs={','.join(map(str, loop.recipe.keep_epochs))}; leave that out, or give another folder"
        )


def _kept_epochs(loop: Loop) -> list[int]:
    """Those of the recipe's `keep_epochs` that training has come to."""
    return [epoch for epoch in loop.recipe.keep_epochs if epoch <= loop.progress.epoch]


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """In which settings two trainings differ."""
    for part in ("defense", "recipe", "data"):
        there, here = json.loads(json.dumps(theirs[part])), json.loads(json.dumps(ours[part]))
        changed = [name for name in sorted({*there, *here} - {*IRRELEVANT}) if there.get(name) != here.get(name)]
        if changed:
            return ", ".join(f"{part} {name}: {there.get(name)!r} there, {here.get(name)!r} here" for name in changed)
    there, here = (by_contents(json.loads(json.dumps(card.get("regularisers", [])))) for card in (theirs, ours))
    if there != here:
        return f"other regularisers{settings_apart(there, here)}"
    return "other initial weights, or other validation images"


def _trained(loop: Loop) -> Trained:
    criterion, folder = loop.validation.criterion, loop.keeper.folder
    best = loop.history[best_index(loop.history, criterion, loop.settled)]
    findings = [
        finding for finding in (loop.progress.stopped, robust_overfitting(loop.history[loop.settled :])) if finding
    ]
    attrs = {"title": "how training went", "defense": loop.defense.title, "criterion": criterion or "none: the last"}
    attrs |= {"best_epoch": best["epoch"], "findings": findings, "provenance": loop.keeper.card}
    last = loop.finished()
    model = _with_weights(last, loop.keeper.weights if folder is None else _weights(folder / BEST))
    stages = tuple(_with_weights(last, weights) for weights in _stages(loop))
    kept = {epoch: _with_weights(last, _epoch(loop, epoch)) for epoch in _kept_epochs(loop)}
    if loop.regularisation:
        attrs["regularisers"] = list(loop.regularisation.settings)
    history = history_dataset(loop.history, attrs, {**loop.defense.recorded, **loop.regularisation.recorded})
    regularisers = tuple(loop.regularisation.settings.values())
    return Trained(model, last, history, loop.defense, loop.recipe, folder, findings, stages, regularisers, kept)


def _stages(loop: Loop) -> list[dict[str, Tensor]]:
    """The weights that the stages of the defense ended with, but for the last stage."""
    begun = [first for first in loop.defense.stages(loop.recipe.epochs)[1:] if first <= loop.progress.epoch]
    folder = loop.keeper.folder
    return loop.keeper.stages if folder is None else [_weights(folder / stage_file(n + 1)) for n in range(len(begun))]


def _epoch(loop: Loop, number: int) -> dict[str, Tensor]:
    """The weights after an epoch that was kept."""
    folder = loop.keeper.folder
    return loop.keeper.epochs[number] if folder is None else _weights(folder / epoch_file(number))


def _weights(path: Path) -> dict[str, Tensor]:
    return read_checkpoint(path)["state_dict"]


def _with_weights(network: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """A copy of `network` with other weights."""
    network = copy.deepcopy(network)
    network.load_state_dict(weights)
    return network
