"""A sparse coding front end in numbers to look at: its atoms, the code of a patch step by step, its quantiser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe.data import Data
from netprobe.defenses.front_end import Defended
from netprobe.defenses.quantiser import quantise, smooth
from netprobe.defenses.sparse_coding.encoder import Encoder
from netprobe.defenses.sparse_coding.front_end import SparseCoding
from netprobe.devices import batch_size, device_of
from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.metrics.base import variable

STEPS = ("projections", "top-T", "dropout", "quantised")
REACH, POINTS = 0.75, 1201
"""Of the curves of the quantiser: r from -REACH to REACH."""
UNIFORM, IDLE = 0.9, 0.1
"""Brightness of an atom that is hardly more than a uniform patch; use, as a share of the mean, of one hardly used."""


def encoder_of(model: nn.Module) -> Encoder:
    """The encoder of a network of `SparseCodingDefense`, or of its front end."""
    front = model.front if isinstance(model, Defended) else model
    if not isinstance(front, SparseCoding):
        raise NetprobeError(
            f"a {type(model).__name__} has no sparse coding front end: train one with fit('sparse-coding', ...)"
        )
    return front.encoder


def dictionary_atoms(model: nn.Module, data: Data | None = None, *, progress: bool = True) -> xr.Dataset:
    """The atoms of the front end of `model` and, if there are images, how much each is used for those.

    Returns a Dataset over `atom`:
        weight(atom, channel, row, column)  of unit L2 norm
        length(atom)       ||d||_1, in [1, sqrt(C n n)]: the level that its coefficient is quantised to
        brightness(atom)   <d, u> for the uniform patch u of unit norm, in [-1, 1]
        use(atom)          share of the patches of `data` among whose T largest coefficients it is; sums to T
        outcome(quantity)  "mean length"; "nearly uniform", the share of atoms of brightness beyond +-0.9; "coherence",
                           the mean |<d_i, d_j>| of every two; with images "idle", the share of atoms that are among
                           the T largest a tenth as often as the average atom, or less

    Cost: with images, one pass of the encoder; L^2 numbers for the coherence.
    """
    encoder = encoder_of(model)
    atoms = encoder.dictionary.detach().double().cpu()
    flat = atoms.flatten(1)
    found = {
        "weight": variable("atom channel row column", atoms.numpy(), "weight of an atom", "1", "of unit L2 norm"),
        "length": variable("atom", flat.abs().sum(1).numpy(), "L1 norm of an atom", "1", "||d||_1, its level"),
        "brightness": variable(
            "atom",
            (flat.sum(1) / flat.shape[1] ** 0.5).numpy(),
            "likeness to a uniform patch",
            "1",
            "cosine of the angle between the atom and a uniform patch",
        ),
    }
    if data is not None:
        use = _use(model, encoder, data, progress)
        found["use"] = variable("atom", use, "use of an atom", "1", "share of patches that it is kept in by top-T")
    outcome = _outcome(flat.numpy(), {name: each.values for name, each in found.items()})
    about = "mean ||d||_1; shares of atoms; mean |<d_i, d_j>|, i < j"
    found["outcome"] = variable("quantity", np.array(list(outcome.values())), "what learning led to", "1", about)
    coords = {"atom": np.arange(len(atoms)), "quantity": list(outcome)}
    return xr.Dataset(found, coords, {"title": "atoms", "top": encoder.top})


def _outcome(atoms: np.ndarray, found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """What learning a dictionary (atom, number) led to, in a few numbers."""
    alike = np.abs(atoms @ atoms.T)[np.triu_indices(len(atoms), 1)]
    seen = {
        "mean length": found["length"].mean(),
        "nearly uniform": (np.abs(found["brightness"]) > UNIFORM).mean(),
        "coherence": alike.mean() if alike.size else np.nan,
    }
    return seen | ({"idle": (found["use"] <= IDLE * found["use"].mean()).mean()} if "use" in found else {})


def _use(model: nn.Module, encoder: Encoder, data: Data, progress: bool) -> np.ndarray:
    device, counts, patches = device_of(model), torch.zeros(encoder.atoms, dtype=torch.int64), 0
    with undisturbed(model), torch.no_grad(), tqdm(total=len(data), desc="atoms", disable=not progress) as bar:
        for batch in data.batches(batch_size(data.shape, 1, device), device):
            for image in batch.x.split(16):
                kept = encoder.project(image).abs().topk(encoder.top, -1).indices
                counts += torch.bincount(kept.flatten(), minlength=encoder.atoms).cpu()
                patches += kept[..., 0].numel()
                bar.update(len(image))
    return counts.numpy() / patches


def code_steps(model: nn.Module, image: Tensor, patch: tuple[int, int] | None = None, *, seed: int = 0) -> xr.Dataset:
    """The code of one patch of `image` (C, H, W), step by step; `patch` is its row and column, None one in the middle.

    Returns a Dataset:
        value(step, atom)  after projections, top-T, dropout (the draws are of the seed) and quantised
        left(step)         how many are not zero
        pixel(channel, row, column)  the patch
    """
    encoder = encoder_of(model)
    x = image[None].to(encoder.dictionary)
    with undisturbed(encoder), torch.no_grad():
        torch.manual_seed(seed)
        coded = encoder(x)
        projections = encoder.project(x)[0]
        row, column = located(patch, projections.shape[:2])
        a = projections[row, column]
        kept = torch.zeros_like(a).scatter(0, a.abs().topk(encoder.top).indices, 1.0)
        top = (a.abs() if encoder.sign_less else a) * kept
        looked_at, left = coded.index[0, row, column], dropped(encoder, x, seed)[row, column]
        dropout = torch.zeros_like(a).scatter(0, looked_at, top[looked_at] * left)
    steps = torch.stack([a, top, dropout, coded.dense()[0, :, row, column]]).double().cpu().numpy()
    pixels = encoder.patches(x)[0, row, column].view_as(encoder.dictionary[0]).double().cpu().numpy()
    found = {
        "value": variable("step atom", steps, "coefficient", "1", "of the patch, in units of pixels times atoms"),
        "left": variable("step", (steps != 0).sum(1), "coefficients left", "1", "how many are not zero"),
        "pixel": variable("channel row column", pixels, "pixel value", "1", "of the patch, in [0, 1]"),
    }
    attrs = {"title": "code of a patch", "row": row, "column": column, "top": encoder.top, "dropout": encoder.dropout}
    return xr.Dataset(found, {"step": list(STEPS), "atom": np.arange(encoder.atoms)}, attrs)


def dropped(encoder: Encoder, x: Tensor, seed: int) -> Tensor:
    """Which of the coefficients that the code of x (1, C, H, W) holds dropout has kept, (m, m, K)."""
    torch.manual_seed(seed)
    return encoder.drawn(x, None)[1][0]


def located(patch: tuple[int, int] | None, across: Sequence[int]) -> tuple[int, int]:
    """The row and the column of a patch among so many; None is the one in the middle."""
    row, column = (side // 2 for side in across) if patch is None else patch
    if not (0 <= row < across[0] and 0 <= column < across[1]):
        raise NetprobeError(
            f"there are {across[0]} x {across[1]} patches: choose patch=(row, column) from (0, 0) to "
            f"({across[0] - 1}, {across[1] - 1}), not ({row}, {column})"
        )
    return row, column


def surrogate_curves(
    sharpnesses: Sequence[float] = (2, 4, 8, 32), *, beta: float = 3.0, eps: float = 8 / 255
) -> xr.Dataset:
    """The quantiser f(r) = 1/2 (sgn(r - j) + sgn(r + j)), j = beta eps, and its smooth surrogates, for |r| <= 0.75.

    Returns a Dataset: quantised(r); smooth(sharpness, r) = 1/2 (tanh(k (r - j)) + tanh(k (r + j))), r = a / ||d||_1;
    and slope(sharpness, r), its derivative, what gradients are multiplied by.

    Bakiskan 2022, appendix B.4 and figure B.2.
    """
    r, j = torch.linspace(-REACH, REACH, POINTS, dtype=torch.float64), beta * eps
    curves = [_curve(r, j, k) for k in sharpnesses]
    values, slopes = (np.stack(part) for part in zip(*curves, strict=True))
    found = {
        "quantised": variable("r", quantise(r, (-j, j)).numpy(), "quantiser", "1", "1/2 sgn(r - j) + 1/2 sgn(r + j)"),
        "smooth": variable("sharpness r", values, "surrogate", "1", "1/2 tanh(k (r - j)) + 1/2 tanh(k (r + j))"),
        "slope": variable("sharpness r", slopes, "slope of the surrogate", "1", "derivative with respect to r"),
    }
    return xr.Dataset(found, {"r": r.numpy(), "sharpness": [float(k) for k in sharpnesses]}, {"threshold": j})


def _curve(r: Tensor, j: float, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    point = r.clone().requires_grad_()
    values = smooth(point, (-j, j), sharpness)
    (slope,) = torch.autograd.grad(values.sum(), point)
    return values.detach().numpy(), slope.numpy()
