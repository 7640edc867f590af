"""How many dimensions data have near each sample, by the distances to its nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from scipy import stats

from netprobe.data import Data
from netprobe.errors import NetprobeError
from netprobe.metrics.base import interval, variable
from netprobe.uncertainty import LEVEL, bootstrap_interval

NEIGHBOURS = (5, 10, 20)


def intrinsic_dimension(data: Data | torch.Tensor | np.ndarray, neighbours: Sequence[int] = NEIGHBOURS) -> xr.Dataset:
    """Local dimension d of samples, from distances T_1 < T_2 < ... to their nearest neighbours.

        mle-k    1/d = mean over samples and j < k of ln(T_k / T_j)     Levina and Bickel 2004, averaged as by MacKay
        twonn    1/d = mean over samples of ln(T_2 / T_1)               Facco et al. 2017, by maximum likelihood

    data   a `Data`, or samples (N, ...); copies of a sample are taken out, and counted in `copies`

    Returns a Dataset over (estimator): `dimension` with its 95 % interval (mle: bootstrap over samples; twonn: exact
    of independent ratios), and `alpha_bound` = 1 + 2 / d, above which a code of d-dimensional stimuli is smooth
    (Stringer et al. 2019). Intervals know nothing of the bias, which is downwards and grows with d: N samples hardly
    show more than 2 log10 N dimensions. Larger k is steadier and less local. Cost: N^2 distances.

    >>> import numpy as np
    >>> import netprobe as npb
    >>> rng = np.random.default_rng(0)
    >>> plane = rng.random((500, 2)) @ rng.random((2, 20))  # two dimensions in a space of twenty
    >>> npb.intrinsic_dimension(plane).dimension.values.round()
    array([2., 2., 2., 2.])
    """
    from sklearn.neighbors import NearestNeighbors

    samples = data.inputs if isinstance(data, Data) else torch.as_tensor(data)
    rows = samples.flatten(1).double().cpu().numpy()
    unique = np.unique(rows, axis=0)
    wanted = sorted(set(neighbours))
    if not wanted or wanted[0] < 2 or len(unique) <= max(wanted[-1], 2):
        raise NetprobeError(f"neighbours={neighbours!r} of {len(unique)} samples: give numbers from 2 to below that")
    distances = NearestNeighbors(n_neighbors=wanted[-1] + 1).fit(unique).kneighbors()[0][:, : wanted[-1]]
    logs = np.log(distances)
    inverse = [(logs[:, k - 1 : k] - logs[:, : k - 1]).mean(1) for k in wanted]
    ratios = logs[:, 1] - logs[:, 0]
    estimates = [1 / each.mean() for each in [*inverse, ratios]]
    bounds = [bootstrap_interval(each, lambda mean: 1 / mean)[::-1] for each in inverse]
    exact = stats.chi2.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], 2 * len(ratios)) / (2 * ratios.sum())
    dimension = variable("estimator", estimates, "intrinsic dimension", "1", "mle-k or twonn, see the estimator")
    intervals = np.array([*bounds, exact])
    alpha = variable("estimator", 1 + 2 / np.array(estimates), "smoothness bound on alpha", "1", "1 + 2 / d")
    found = {
        "dimension": dimension,
        "dimension_interval": interval("estimator", intervals, dimension, "bootstrap over samples; twonn: exact"),
        "alpha_bound": alpha,
        "alpha_bound_interval": interval("estimator", 1 + 2 / intervals[:, ::-1], alpha, "from that of d"),
        "copies": variable("", len(rows) - len(unique), "copies", "1", "samples equal to another one, left out"),
    }
    coords = {"estimator": [*(f"mle-{k}" for k in wanted), "twonn"], "bound": ["low", "high"]}
    return xr.Dataset(found, coords, {"title": "intrinsic dimension", "samples": len(unique)})
