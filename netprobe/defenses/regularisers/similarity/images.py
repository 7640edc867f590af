"""The images whose similarity is to be matched: of the training set, or of any other."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from netprobe.data import Data
from netprobe.data.channels import with_channels
from netprobe.data.opening import open_source
from netprobe.data.stratify import stratified
from netprobe.defenses.regularisers.base import Subject
from netprobe.errors import NetprobeError

OWN = "own"


class Drawn(NamedTuple):
    """Images in an order that tells nothing, and where (N,) int64 they are among the `among` images of their set."""

    images: Data
    places: Tensor
    among: int


def regularisation_images(what: str, subject: Subject, *, count: int, size: int | None, split: str, seed: int) -> Drawn:
    """At most `count` images of the data that `what` names, every class its share, with the channels of training.

    "own" are the training images; their set is all that were given for training, held-out ones included.
    """
    training = subject.data
    if what == OWN:
        if size is not None:
            raise NetprobeError(f"size={size} is for images of other sets; those of the training set stay as they are")
        labels, read, kept = training.labels.numpy(), training.select, subject.kept
    else:
        source = open_source(what, split, None, {} if size is None else {"size": size})
        labels, read, kept = source.labels, source.at, None
    index = stratified(labels, min(count, len(labels)), seed)
    found = read(index)
    if found.kind != "image" or len(found) < 2:
        raise NetprobeError(f"{found!r}: similarity is regularised by two images or more")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed))
    kept = torch.ones(len(labels), dtype=torch.bool) if kept is None else kept
    places = kept.nonzero()[:, 0][index][order]
    return Drawn(with_channels(found, training.shape[0]).select(order), places, len(kept))
