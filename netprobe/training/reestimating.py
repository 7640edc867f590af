"""Running statistics of batch norm, estimated anew."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.devices import device_of
from netprobe.errors import NetprobeError


def reestimate_batch_norm(model: nn.Module, data: Data | Any, *, batch_size: int = 256) -> nn.Module:
    """A copy of `model`, in eval mode, whose batch norms have the statistics of `data`, and nothing else changed.

        running mean = mean over batches of the batch's mean,   running variance = that of its unbiased variance

    each batch normalised by its own statistics, as in training, all other layers in eval mode. Training keeps moving
    averages of whatever passed through, such as adversarial images, or the pairs of the regulariser `similarity`; this
    tells how much of a result hangs on them. (`netprobe.batch_norm_drift` measures how far they are off.)

    Parameters
    ----------
    model : with at least one batch norm that keeps running statistics; it is left as it is
    data : a `Data`, or anything `netprobe.data.load` takes: clean training images, in an order that mixes classes
    batch_size : of two images or more; the last batch, if smaller than half of it, is left out

    Cost: a forward pass of all images. NetprobeError if there is nothing to estimate, or too few images.

    >>> from torch import nn
    >>> import netprobe as npb
    >>> net = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10))
    >>> again = npb.reestimate_batch_norm(net, npb.data.load("digits", limit=20), batch_size=20)
    >>> net[0].running_mean, bool(again[0].running_mean > 0.2)
    (tensor([0.]), True)
    """
    data = data if isinstance(data, Data) else load_data(data, "train")
    made = copy.deepcopy(model).eval()
    norms = [module for module in made.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None]
    if not norms:
        raise NetprobeError(f"{type(model).__name__} has no batch norm that keeps running statistics")
    if min(batch_size, len(data)) < 2:
        raise NetprobeError(f"batch_size={batch_size} of {len(data)} images: a variance needs two images or more")
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # averages over all batches alike
        norm.train()
    with torch.no_grad():
        for number, batch in enumerate(data.batches(batch_size, device_of(made))):
            if number == 0 or len(batch.x) >= batch_size / 2:
                made(batch.x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return made.eval()
