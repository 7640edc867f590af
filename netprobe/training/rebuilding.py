"""A network from the checkpoint that training wrote, which says itself what it holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import nn

from netprobe.defenses import DEFENSES
from netprobe.enrolled import qualified
from netprobe.errors import CheckpointError
from netprobe.models import ARCHITECTURES
from netprobe.models.reading import read
from netprobe.training.saved import CARD

LIBRARY = re.compile(r"(torchvision|timm):\w+(\.\w+)*")
"""A network of a library by its plain name; timm also knows names that stand for files and downloads."""


def trained_contents(path: Path) -> dict[str, Any] | None:
    """What a checkpoint of ours holds; None for any other file."""
    try:
        contents = read(path)
    except CheckpointError:  # no checkpoint of ours: what it is, and what to do about it, its own reader will say
        return None
    return contents if isinstance(contents, dict) and isinstance(contents.get(CARD), dict) else None


def rebuilt(contents: dict[str, Any], path: Path) -> nn.Module:
    """The network of the checkpoint at `path`, with its weights, in eval mode; its defense built in."""
    from netprobe.checkpoints import load

    card = contents[CARD]
    network = card["network"]
    if not _harmless(network):
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


def _harmless(network: dict[str, Any]) -> bool:
    """Whether building it runs no code that the checkpoint's author chose: arguments of libraries may name files."""
    if network["what"] in ARCHITECTURES:
        return True
    return LIBRARY.fullmatch(str(network["what"])) is not None and not network["arguments"]


def _defended(model: nn.Module, settings: dict[str, Any], path: Path) -> nn.Module:
    name, described = settings["defense"], settings.get("class")
    cls = DEFENSES.get(name)
    if cls is None or described not in (None, qualified(cls)):
        raise CheckpointError(
            f"{path} was trained with the defense {described or name}, which is none of {', '.join(DEFENSES)}: enrol "
            f"it by an entry point of {DEFENSES.group!r}, or build the network yourself, load(NETWORK, checkpoint)"
        )
    return cls(**{key: value for key, value in settings.items() if key not in ("defense", "class")}).build(model)
