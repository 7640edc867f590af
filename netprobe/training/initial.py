"""The network that training starts from."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from netprobe.checkpoints import load
from netprobe.data import Data
from netprobe.defenses import Defense
from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.models import ARCHITECTURES
from netprobe.models.sources import blueprint
from netprobe.outputs import logits_of
from netprobe.perturb.randomness import stream_seed
from netprobe.store import source_of


def initial(
    model: str | nn.Module, data: Data, seed: int, *, channels: int | None = None, **arguments: Any
) -> nn.Module:
    """A network of its own to train: a copy of a module, or one built by name with random weights from the seed.

    What is built gets the classes of the data and, where it can be told, `channels` inputs or as many as the images
    have; a perceptron of ours as many inputs as there are values, a network for words their rate and length.
    `arguments` are those of `netprobe.load`, such as normalize or checkpoint.
    """
    if isinstance(model, nn.Module):
        return copy.deepcopy(model)
    plan = blueprint(model)
    fitting: dict[str, Any] = {}
    if plan.may_take("num_classes"):
        fitting["num_classes"] = data.num_classes
    if data.kind == "image" and plan.takes("in_channels"):
        fitting["in_channels"] = data.shape[0] if channels is None else channels
    if model in ARCHITECTURES:
        values = math.prod((channels or data.shape[0], *data.shape[1:]))
        known = {"in_features": values, "samples": data.shape[0], "rate": data.sample_rate}
        fitting |= {name: value for name, value in known.items() if plan.takes(name) and value}
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        return load(model, **(fitting | arguments))


def defended(network: nn.Module, defense: Defense, seed: int) -> nn.Module:
    """What `defense` makes of `network`; weights that it adds are random from the seed."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(stream_seed(seed, defense.name))
        return defense.build(network)


def architecture_of(model: str | nn.Module) -> str:
    """The name that the network was built by; "None" for one that no name is known of."""
    return model if isinstance(model, str) else str(source_of(model).get("what"))


def check_fit(model: nn.Module, data: Data, device: torch.device) -> None:
    """Refuse a network that cannot take these inputs or name these classes, before any long work."""
    if len(data) < 2:
        raise NetprobeError("training needs two images or more: batch norm cannot normalise a single one")
    (batch,) = data.select([0, len(data) - 1]).batches(2, device)
    try:
        with undisturbed(model), torch.no_grad():
            logits = logits_of(model(batch.x), 2)
    except RuntimeError as error:
        raise NetprobeError(f"the network cannot take inputs of shape {data.shape} ({data.name}): {error}") from error
    if logits.shape[1] < data.num_classes:
        raise NetprobeError(
            f"the network has {logits.shape[1]} outputs for the {data.num_classes} classes of {data.name}: "
            f"build it with num_classes={data.num_classes}"
        )
