"""The images whose similarity is to be matched: of the training set, or of any other."""

from __future__ import annotations

import torch

from netprobe.data import Data
from netprobe.data.channels import with_channels
from netprobe.data.opening import open_source
from netprobe.errors import NetprobeError

OWN = "own"


def regularisation_images(what: str, training: Data, *, count: int, size: int | None, split: str, seed: int) -> Data:
    """At most `count` images of the data that `what` names, every class its share, with the channels of `training`.

    "own" is `training` itself.
    """
    if what == OWN:
        if size is not None:
            raise NetprobeError(f"size={size} is for images of other sets; those of the training set stay as they are")
        found = training.take(min(count, len(training)), seed)
    else:
        source = open_source(what, split, None, {} if size is None else {"size": size})
        found = source.load(min(count, len(source.labels)), seed)
    if found.kind != "image" or len(found) < 2:
        raise NetprobeError(f"{found!r}: similarity is regularised by two images or more")
    return shuffle(with_channels(found, training.shape[0]), seed)


def shuffle(data: Data, seed: int) -> Data:
    """The same images in an order that tells nothing."""
    return data.select(torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)))
