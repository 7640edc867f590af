"""What a network says on a plane through an image, and how fast its activations change there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.devices import batch_size as rows_at_a_time
from netprobe.devices import device_of
from netprobe.errors import NetprobeError
from netprobe.geometry.jacobians import Measuring, chosen_sites
from netprobe.geometry.linearised import INPUT, linearised
from netprobe.guard import full_precision, undisturbed
from netprobe.metrics.base import variable
from netprobe.outputs import logits_of, widened
from netprobe.perturb.randomness import ImageGenerator, normal, stream_seed
from netprobe.sites import Site

REACH, POINTS, DRAWS = 20.0, 41, 16


def decision_plane(
    model: nn.Module,
    data: Data,
    image: int = 0,
    site: str | None = "output",
    *,
    wrt: str = INPUT,
    directions: tuple[Tensor, Tensor] | None = None,
    towards: tuple[int, int] | None = None,
    reach: float = REACH,
    points: int = POINTS,
    method: str = "auto",
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = True,
) -> xr.Dataset:
    """Decisions and Jacobians on the plane x_0 + s e_1 + t e_2 through one image, |s|, |t| <= `reach`.

    Parameters
    ----------
    image : place of x_0 in the data
    site : whose Jacobian's Frobenius norm to map; None: none, which is much faster
    wrt : where the plane lies and by what is differentiated: the input, or the output of a module, such as "scale" of a
        network that divides its inputs by their norm, which would otherwise forget how far along the plane they are
    directions, towards : what spans the plane: two tensors of the shape of x_0, for example x' - x_0 of an attack; or
        the places of two other images; None: Gaussian directions. They are made orthonormal, in this order
    points : along each side; odd, so that x_0 is in the middle
    method, draws : as for `jacobian_norms`

    Returns a Dataset over (s, t): `prediction`, `confidence` = largest softmax, `frobenius` with `frobenius_error`; and
    `direction` (axis, value), the unit vectors. Points far out are no images, and nothing is clipped. One plane is a
    picture, not a statistic. Cost: points^2 images; see `jacobian_norms`. The model is left as found.

    Holzhausen et al., arXiv 2405.00679: reach 20, 100 points, their images of unit L_3 norm: wrt="scale".
    """
    if points < 3 or points % 2 == 0 or not reach > 0 or not 0 <= image < len(data):
        raise NetprobeError(f"points={points}, reach={reach}, image={image}: give an odd number, above 0, in the data")
    measuring = Measuring(method, draws, seed=seed)
    sites, source = chosen_sites(model, data, site or "output", wrt)
    if len(sites) != 1:
        raise NetprobeError(f"site={site!r} is {len(sites)} sites: name one")
    with undisturbed(model), full_precision():
        torch.manual_seed(seed)
        spanned = (directions, towards)
        return _mapped(model, data, image, sites[0], source, spanned, reach, points, measuring, site, progress)


def _mapped(model, data, image, site, source, given, reach, points, measuring, asked, progress) -> xr.Dataset:
    device = device_of(model)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    (batch,) = data.select([image]).batches(1, device)
    x0 = batch.x.to(dtype)
    origin = _entering(model, x0, source)
    axes = _axes(model, data, origin, source, *given, image, measuring.seed)
    steps = np.linspace(-reach, reach, points)
    s, t = (torch.as_tensor(g.ravel()).to(origin) for g in np.meshgrid(steps, steps, indexing="ij"))
    parts = []
    size = max(1, rows_at_a_time(data.shape, 1, device) // (4 if asked else 1))
    with tqdm(total=len(s), desc="plane", unit="point", disable=not progress) as bar:
        for rows in torch.arange(len(s)).split(size):
            at = origin + (torch.stack([s[rows], t[rows]], 1) @ axes).view(len(rows), *origin.shape[1:])
            x = x0.expand(len(rows), *x0.shape[1:])
            parts.append(_looked_at(model, x, at, site, source, measuring, rows, asked))
            bar.update(len(rows))
    values = [np.concatenate(part).reshape(points, points) for part in zip(*parts, strict=True)]
    return _dataset(values, axes, steps, image, int(batch.y), site.name if asked else None, source, measuring)


def _entering(model: nn.Module, x: Tensor, source: Site | None) -> Tensor:
    """What the plane goes through: the image, or what `source` makes of it."""
    with linearised(model, [], x, source) as maps:
        return maps.source.detach()


def _axes(
    model: nn.Module,
    data: Data,
    origin: Tensor,
    source: Site | None,
    directions: tuple[Tensor, Tensor] | None,
    towards: tuple[int, int] | None,
    image: int,
    seed: int,
) -> Tensor:
    """Two orthonormal directions, (2, values)."""
    if directions is not None and towards is not None:
        raise NetprobeError("give directions or towards, not both")
    if towards is not None:
        others = data.select(list(towards)).inputs.to(origin)
        if len(others) != 2:
            raise NetprobeError(f"towards={towards!r}: name two images")
        spanning = (_entering(model, others, source) - origin).flatten(1)
    elif directions is not None:
        if [tuple(d.shape) for d in directions] != [tuple(origin.shape[1:])] * 2:
            shape = tuple(origin.shape[1:])
            raise NetprobeError(f"directions must be two tensors of shape {shape}, that of what the plane lies in")
        spanning = torch.stack([d.detach().to(origin).flatten() for d in directions])
    else:
        streams = ImageGenerator(stream_seed(seed, "plane"), [image])
        spanning = torch.stack([normal(origin, streams).flatten() for _ in range(2)])
    first, second = spanning.double()
    first = first / first.norm()
    for _ in range(2):  # twice is enough
        second = second - (first @ second) * first
    if not (first.isfinite().all() and second.norm() > 1e-9 * spanning[1].norm()):
        raise NetprobeError("the two directions are one, or none: they span no plane")
    return torch.stack([first, second / second.norm()]).to(origin)


def _looked_at(
    model: nn.Module,
    x: Tensor,
    at: Tensor,
    site: Site,
    source: Site | None,
    measuring: Measuring,
    rows: Tensor,
    asked: str | None,
) -> Sequence[np.ndarray]:
    """Prediction, confidence, norm and its error at some points."""
    with linearised(model, [site], x, source, at) as maps:
        probabilities = widened(logits_of(maps.output, len(x))).softmax(1)
        moves = asked and maps[site.name].a.requires_grad
        norm = measuring.frobenius(maps[site.name], site.name, rows) if moves else None
    confidence, prediction = probabilities.max(1)
    nothing = torch.full_like(confidence, torch.nan)
    values = (prediction, confidence, *((norm.value, norm.error) if norm else (nothing, nothing)))
    return [value.detach().cpu().numpy() for value in values]


def _dataset(values, axes, steps, image, label, site, source, measuring) -> xr.Dataset:
    prediction, confidence, frobenius, error = values
    where = INPUT if source is None else source.name
    about = ("Frobenius norm of the Jacobian", f"activation / {where}", f"||J||_F of {site}")
    found = {
        "prediction": variable("s t", prediction, "predicted class", "class", "index of the largest logit"),
        "confidence": variable("s t", confidence, "largest softmax", "1", "max_k softmax(z)_k"),
        "frobenius": variable("s t", frobenius, *about),
        "frobenius_error": variable("s t", error, f"error of the {about[0]}", about[1], "standard error; 0: exact"),
        "mean_frobenius": variable("axis", _along(frobenius), f"mean {about[0]} along the axis", *about[1:]),
        "direction": variable("axis value", axes.cpu().numpy(), "direction", "1", "unit vectors e_1 and e_2"),
    }
    attrs = {"title": "plane", "image": image, "label": label, "site": site or "", "wrt": where}
    return xr.Dataset(found, {"s": steps, "t": steps, "axis": ["e1", "e2"]}, attrs | {"method": measuring.method})


def _along(values: np.ndarray) -> list[float]:
    """The means along the axes e_1 and e_2."""
    middle = len(values) // 2
    return [float(values[:, middle].mean()), float(values[middle].mean())]
