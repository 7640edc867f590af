"""A network followed through its training: what images that it was not trained on say after some of its epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from netprobe.data import Data
from netprobe.data import load as load_data
from netprobe.errors import NetprobeError
from netprobe.evaluation import evaluate
from netprobe.geometry import jacobian_norms
from netprobe.geometry.linearised import INPUT
from netprobe.training.trained import Trained

IMAGES = 100
OF_IMAGES = ("accuracy", "mean_loss")
OF_JACOBIANS = ("mean_frobenius", "mean_operator")
EPOCH = {"long_name": "epoch", "units": "1", "definition": "epochs that were over; 0 is before the first step"}


def follow(
    trained: Trained,
    data: Data | Any,
    sites: Any = "output",
    *,
    wrt: str = INPUT,
    images: int = IMAGES,
    progress: bool = True,
    **settings: Any,
) -> xr.Dataset:
    """Accuracy, loss and norms of Jacobians of a network after those epochs that its training kept.

    Parameters
    ----------
    trained : what `npb.fit(..., keep_epochs=(0, 1, 5))` returned
    data : a `Data`, or anything `netprobe.data.load` takes: images that it was not trained on, clean
    sites, wrt, settings : as for `jacobian_norms`
    images : how many of them, every class its part, have their Jacobians measured, which takes long

    Returns a Dataset over `epoch`: accuracy, of all images, with its Wilson interval; mean_loss, the cross-entropy
    (nat), and over `site` mean_frobenius and mean_operator, ||J||_F and ||J||_2 of J = d site / d `wrt`, with bootstrap
    95 % intervals over images. `netprobe.over_seeds` averages several trainings. The images are the same after every
    epoch, so that intervals say more of the images than of differences between epochs.

    NetprobeError if no epoch was kept.

    >>> import netprobe as npb
    >>> digits = npb.data.load("digits", "train", limit=60)
    >>> trained = npb.fit("natural", "mlp", digits, "quick", epochs=2, keep_epochs=(0, 2), progress=False)
    >>> found = npb.follow(trained, npb.data.load("digits", limit=20), images=5, progress=False)
    >>> found.epoch.values.tolist(), found.mean_frobenius.dims
    ([0, 2], ('epoch', 'site'))
    """
    if not trained.kept:
        raise NetprobeError("this training kept no epochs: fit with keep_epochs=(0, 1, 5), say, to follow it")
    data = data if isinstance(data, Data) else load_data(data)
    some, shown = data.take(min(images, len(data)), 0), {"progress": progress}
    models = {str(epoch): network for epoch, network in trained.kept.items()}
    seen = evaluate(models, data, None, doubts=False, preflight=False, **shown)
    every = [
        xr.merge(
            [
                _estimates(seen[f"{name}/evaluation"].to_dataset().sel(condition="clean", drop=True), OF_IMAGES),
                _estimates(jacobian_norms(network, some, sites, wrt=wrt, **shown, **settings), OF_JACOBIANS),
            ],
            combine_attrs="override",
        )
        for name, network in models.items()
    ]
    found = xr.concat(every, xr.Variable("epoch", np.array(list(trained.kept)), EPOCH), combine_attrs="override")
    found.attrs = {"title": "a network followed through its training", "wrt": wrt}
    return found.assign_attrs(samples=len(data), jacobian_samples=len(some))


def _estimates(data: xr.Dataset, names: tuple[str, ...]) -> xr.Dataset:
    """Means over images with their intervals; nothing of single images."""
    return data[[each for name in names for each in (name, f"{name}_interval")]].drop_vars("image", errors="ignore")
