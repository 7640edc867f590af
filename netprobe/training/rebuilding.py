"""A network from the checkpoint that training wrote, which says itself what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from netprobe.defenses import DEFENSES
from netprobe.errors import CheckpointError
from netprobe.models import ARCHITECTURES
from netprobe.models.reading import read
from netprobe.training.saved import CARD

SAFE = ("torchvision:", "timm:")
"""Where a checkpoint may name a network from: building it runs no code that the checkpoint's author chose."""


def is_trained(path: Path) -> bool:
    """Whether the file holds a checkpoint of ours."""
    contents = read(path)
    return isinstance(contents, dict) and isinstance(contents.get(CARD), dict)


def rebuilt(path: Path) -> nn.Module:
    """The network of the checkpoint, with its weights, in eval mode; its defense built in."""
    from netprobe.checkpoints import load

    contents = read(path)
    card = contents[CARD]
    network = card["network"]
    if network["what"] not in ARCHITECTURES and not str(network["what"]).startswith(SAFE):
        raise CheckpointError(
            f"{path} holds weights of {network['what'] or network['class']}, which would run code to build: "
            "give the network, load(NETWORK, checkpoint)"
        )
    normalize = network["normalize"] and (network["normalize"]["mean"], network["normalize"]["std"])
    plain = load(
        network["what"], num_classes=network["num_classes"], normalize=normalize, **(network["arguments"] or {})
    )
    source = plain.netprobe_source
    model = _defended(plain, card["defense"], path)
    model.load_state_dict(contents["state_dict"])
    model.netprobe_source = source | {"defense": card["defense"]}
    return model.eval()


def _defended(model: nn.Module, settings: dict[str, Any], path: Path) -> nn.Module:
    name = settings["defense"]
    if name not in DEFENSES or "class" in settings:
        raise CheckpointError(
            f"{path} was trained with the defense {settings.get('class', name)}, which is none of "
            f"{', '.join(DEFENSES)}: build the network yourself, load(NETWORK, checkpoint)"
        )
    return DEFENSES[name](**{key: value for key, value in settings.items() if key != "defense"}).build(model)
