"""How far from an image a network first errs, along random and adversarial directions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.devices import batch_size as rows_at_a_time
from netprobe.devices import device_of
from netprobe.errors import NetprobeError
from netprobe.evaluation.datasets import share
from netprobe.geometry.doubting import distance_doubts
from netprobe.geometry.survival import median_distance
from netprobe.geometry.walks import Walk, walk
from netprobe.guard import full_precision, undisturbed
from netprobe.metrics.base import interval, variable
from netprobe.models.shallow import LpScale
from netprobe.perturb.objective import predict
from netprobe.perturb.randomness import ImageGenerator, stream_seed
from netprobe.uncertainty import wilson, wilson_intervals

DEFAULT = ("random", "fgsm", "pgd")


class _Walked(NamedTuple):
    """Of every image: the eps that fooled the network and the distance there; of those that stood, the last tried."""

    fooled: np.ndarray
    eps: np.ndarray
    l2: np.ndarray
    linf: np.ndarray


def critical_distances(
    model: nn.Module,
    data: Data,
    walks: Sequence[str] | Mapping[str, Any] = DEFAULT,
    *,
    eps: Any = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """The least strength, on a grid walked upwards, at which each image is no longer classified as before.

    Parameters
    ----------
    walks : "random" (x + eps n, one n ~ N(0, 1) an image, not clipped), "fgsm", "pgd" (20 steps, 3 restarts),
        "coarse-pgd" (the paper's); or by name perturbations, or their specs without the strength
    eps : the strengths, growing; of several walks by name; None: 100 on a logarithmic grid (see `walks.walk`)

    Only images that are right when clean are walked, and a walk ends at the first eps that fools: the share still right
    can only fall, and no gap behind it counts. What counts is the attack's last step, or the best of its restarts. An
    image that is never fooled is *censored*: it is at least as far away as was looked.

    Returns a Dataset. Over (walk, image): `distance` = ||x' - x||_2, `distance_linf` and `critical_eps`, where censored
    (`censored` = 1) those of the last eps, NaN (`censored` = -1) for images that were wrong. Over (walk): `median`, the
    Kaplan-Meier median with its 95 % interval, inf where less than half were fooled, and likewise `median_eps`. Over
    (walk, step): `eps`, `relative_accuracy` and `accuracy` with Wilson intervals. `clean_accuracy`. Larger is better,
    but distances are as good as the attack: upper bounds. Of a network that divides its inputs by their norm
    (`LpScale`), `input_scale` has that norm, and the `_scaled` variables are in units of what comes out of it: distance
    over norm, not counting that the norm of x' differs. The attribute `doubts`, JSON: see `distance_doubts`.

    True distances lie between two steps of the grid, a factor `grid_ratio` apart. The model is left as found. Cost: for
    every eps the attack on the images that still stand.

    >>> import netprobe as npb
    >>> net, digits = npb.load("digits_cnn"), npb.data.load("digits", limit=20)
    >>> found = npb.critical_distances(net, digits, ["fgsm"], eps=[0.1, 0.2, 0.4], progress=False)
    >>> dict(found.distance.sizes), found.eps.values
    ({'walk': 1, 'image': 20}, array([[0.1, 0.2, 0.4]]))
    """
    chosen = _walks(walks, eps, data)
    device = device_of(model)
    with (
        undisturbed(model),
        full_precision(),
        tqdm(total=len(data) * len(chosen), desc="distances", unit="image", disable=not progress) as bar,
    ):
        torch.manual_seed(seed)
        size = batch_size or rows_at_a_time(data.shape, 1, device)
        x, y, right = _clean(model, data, size)
        asked = np.flatnonzero(right)
        found = []
        for name, each in chosen.items():
            bar.update(int((~right).sum()))
            found.append(_walked(model, x, y, asked, each, stream_seed(seed, name), size, bar))
    return _dataset(chosen, found, right, _scale(model, data))


def _walks(given: Sequence[str] | Mapping[str, Any], eps: Any, data: Data) -> dict[str, Walk]:
    named = dict(given) if isinstance(given, Mapping) else {name.partition(":")[0]: name for name in _listed(given)}
    if not named or (not isinstance(given, Mapping) and len(named) < len(_listed(given))):
        raise NetprobeError(f"walks={given!r}: give one or more, of different names")
    low = 0.0 if data.kind == "image" else -1.0
    return {name: walk(each, eps.get(name) if isinstance(eps, Mapping) else eps, low) for name, each in named.items()}


def _listed(given: Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _clean(model: nn.Module, data: Data, size: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """All inputs and labels on the model's device, in its precision, and which it gets right."""
    dtype, parts = next(model.parameters(), torch.empty(0)).dtype, []
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    for batch in data.batches(size, device_of(model)):
        x = batch.x.to(dtype)
        parts.append((x, batch.y, predict(model, x).argmax(1) == batch.y))
    x, y, right = (torch.cat(part) for part in zip(*parts, strict=True))
    return x, y, right.cpu().numpy()


def _walked(
    model: nn.Module, x: Tensor, y: Tensor, asked: np.ndarray, walk: Walk, seed: int, size: int, bar: tqdm
) -> _Walked:
    """Every image of `asked` until it is fooled; at each eps only those are attacked that still stand."""
    fooled = np.zeros(len(x), dtype=bool)
    eps, l2, linf = (np.full(len(x), np.nan) for _ in range(3))
    standing = torch.from_numpy(asked)
    for strength in walk.grid if len(asked) else ():
        for rows in standing.split(size):
            moved, falls = _attacked(model, walk, strength, x[rows], y[rows], ImageGenerator(seed, rows))
            delta = (moved - x[rows]).flatten(1).double()
            here = rows.numpy()
            eps[here], fooled[here] = strength, falls.cpu().numpy()
            l2[here], linf[here] = delta.norm(dim=1).cpu().numpy(), delta.abs().amax(1).cpu().numpy()
        before, standing = len(standing), standing[~torch.from_numpy(fooled)[standing]]
        bar.update(before - len(standing))
        if not len(standing):
            break
    bar.update(len(standing))
    return _Walked(fooled, eps, l2, linf)


def _attacked(
    model: nn.Module, walk: Walk, strength: float, x: Tensor, y: Tensor, generator: ImageGenerator
) -> tuple[Tensor, Tensor]:
    """What becomes of some images at that strength, and which of them fool the network.

    The generator is a fresh one at every strength, so that the noise of an image is the same, but longer.
    """
    moved = walk.at(strength)(model, x, y, generator=generator)
    return moved, predict(model, moved).argmax(1) != y


def _scale(model: nn.Module, data: Data) -> np.ndarray | None:
    """By what the network divides each image, if it does."""
    layers = [module for module in model.modules() if isinstance(module, LpScale)]
    if len(layers) != 1:
        return None
    return torch.linalg.vector_norm(data.inputs.double().flatten(1), layers[0].p, dim=1).numpy()


def _dataset(
    walks: Mapping[str, Walk], found: Sequence[_Walked], right: np.ndarray, scale: np.ndarray | None
) -> xr.Dataset:
    steps = max(len(each.grid) for each in walks.values())
    grids = np.full((len(walks), steps), np.nan)
    for row, each in zip(grids, walks.values(), strict=True):
        row[: len(each.grid)] = each.grid
    censored = np.stack([np.where(right, ~each.fooled, -1).astype(np.int8) for each in found])
    stands = np.where(np.isnan(grids)[..., None] | ~right, -1, _stand(grids, found)).astype(np.int8)
    both = "walk image"
    variables = {
        "eps": variable("walk step", grids, "ε", "input", "strength of the perturbation"),
        "censored": variable(both, censored, "censored", "1", "1: never fooled; 0: fooled; -1: wrong when clean"),
        **_distances(np.stack([each.l2 for each in found]), censored, "", "input"),
        **_distances(np.stack([each.eps for each in found]), censored, "_eps", "input"),
        "distance_linf": variable(
            both, np.stack([each.linf for each in found]), "largest change of a value", "input", "||x' - x||_inf"
        ),
    }
    if scale is not None:
        about = ("norm that the network divides the image by", "input", "||x||_p")
        variables["input_scale"] = variable("image", scale, *about)
        for suffix, values in (("", [each.l2 for each in found]), ("_eps", [each.eps for each in found])):
            variables |= _distances(np.stack(values) / scale, censored, f"{suffix}_scaled", "scaled input")
    relative = share("walk step", stands, "relative accuracy", "share of the images right when clean that still are")
    counts = (stands == 1).sum(-1)
    accuracy = variable("walk step", np.where(np.isnan(grids), np.nan, counts / len(right)), "accuracy", "1", "share")
    bounds = wilson_intervals(counts, len(right))
    bounds[np.isnan(grids)] = np.nan
    clean_bounds = np.array(wilson(right.sum(), len(right)))
    clean = variable("", right.mean(), "clean accuracy", "1", "share of images classified as labelled")
    variables |= {
        "relative_accuracy": relative[""],
        "relative_accuracy_interval": relative["_interval"],
        "accuracy": accuracy,
        "accuracy_interval": interval("walk step", bounds, accuracy, "Wilson score interval"),
        "clean_accuracy": clean,
        "clean_accuracy_interval": interval("", clean_bounds, clean, "Wilson score interval"),
        "grid_ratio": variable(
            "walk",
            [float(np.exp(np.diff(np.log(w.grid)).max(initial=0))) for w in walks.values()],
            "ratio of neighbouring ε",
            "1",
            "the resolution of distances",
        ),
    }
    coords = {
        "walk": list(walks),
        "family": ("walk", [each.family for each in walks.values()]),
        "step": np.arange(steps),
        "image": np.arange(len(right)),
        "bound": ["low", "high"],
    }
    made = xr.Dataset(variables, coords, {"title": "critical distances"})
    return made.assign_attrs(doubts=json.dumps(distance_doubts(made)))


def _stand(grids: np.ndarray, found: Sequence[_Walked]) -> np.ndarray:
    """(walk, step, image): whether the image stands that eps."""
    critical = np.stack([np.where(each.fooled, each.eps, np.inf) for each in found])
    return np.nan_to_num(grids, nan=np.inf)[..., None] < critical[:, None]


def _distances(values: np.ndarray, censored: np.ndarray, suffix: str, unit: str) -> dict[str, xr.Variable]:
    """Distances of images and their median; `suffix` "_eps" for strengths instead."""
    strength = suffix.startswith("_eps")
    name = {"_eps": "critical_eps", "_eps_scaled": "critical_eps_scaled"}.get(suffix, f"distance{suffix}")
    about = ("critical ε", unit, "first ε that fools") if strength else ("critical distance", unit, "||x' - x||_2")
    known = [(row[c >= 0], c[c >= 0] == 1) for row, c in zip(values, censored, strict=True)]
    medians = np.array([median_distance(*each) for each in known])
    median = variable("walk", medians[:, 0], f"median {about[0]}", unit, "Kaplan-Meier; inf: beyond the grid")
    return {
        name: variable("walk image", np.where(censored >= 0, values, np.nan), *about),
        f"median{suffix}": median,
        f"median{suffix}_interval": interval("walk", medians[:, 1:], median, "Brookmeyer-Crowley, log-log"),
    }
