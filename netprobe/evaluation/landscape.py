"""The loss around images, on a plane: is it smooth, and does the gradient lead uphill?"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from netprobe.data import Data
from netprobe.devices import batch_size, device_of
from netprobe.errors import NetprobeError
from netprobe.guard import full_precision, undisturbed
from netprobe.metrics.base import variable
from netprobe.outputs import widened
from netprobe.perturb.frozen import frozen
from netprobe.perturb.geometry import Box
from netprobe.perturb.objective import Goal, input_gradient, predict
from netprobe.perturb.randomness import ImageGenerator, normal, stream_seed

REACH = 16 / 255
POINTS = 25


def loss_landscape(
    model: nn.Module, data: Data, *, images: int = 4, reach: float = REACH, points: int = POINTS, seed: int = 0
) -> xr.Dataset:
    """The cross-entropy on a plane through each of a few images.

        L(a, b) = CE(f(clip(x + a g + b r)), y),   g = sign(gradient of CE at x),   r a random sign per coordinate

    images   how many, evenly spaced in `data`
    reach    a and b go from -reach to reach, in input units; the result is clipped to the range of inputs
    points   on each side of the grid, an odd number, so that the image itself is in the middle

    Returns loss(image, along, across) in nat, and prediction. Rough or flat along g, yet steep elsewhere, is what
    masked gradients look like; smooth and rising along g is what they should look like. A picture of a few planes is
    no proof. The model is left as found. Cost: points^2 forward passes an image, and one backward pass.
    Source: the plane of Athalye et al. (ICML 2018) and of many works since, with the sign of the gradient.
    """
    if images < 1 or points < 3 or points % 2 == 0 or not reach > 0:
        raise NetprobeError(f"images={images}, points={points}, reach={reach}: give 1 or more, an odd number, above 0")
    positions = np.unique(np.linspace(0, len(data) - 1, min(images, len(data))).round().astype(int))
    steps = np.linspace(-reach, reach, points)
    with undisturbed(model), full_precision(), frozen(model):
        torch.manual_seed(seed)
        found = [_plane(model, data, int(position), steps, seed) for position in positions]
    losses, predictions = (np.stack(each) for each in zip(*found, strict=True))
    dims = "image along across"
    middle = points // 2
    rise, sideways = (
        losses[:, -1, middle] - losses[:, middle, middle],
        losses[:, middle, -1] - losses[:, middle, middle],
    )
    variables = {
        "rise": variable("image", rise, "rise of the loss", "nat", "L(reach, 0) - L(0, 0)"),
        "rise_random": variable("image", sideways, "rise along random signs", "nat", "L(0, reach) - L(0, 0)"),
        "loss": variable(dims, losses, "cross-entropy", "nat", "-log softmax(z)_y at clip(x + a g + b r)"),
        "prediction": variable(dims, predictions, "predicted class", "class", "index of the largest logit"),
        "label": variable("image", data.labels.numpy()[positions], "label", "class", "index of the true class"),
    }
    return xr.Dataset(variables, {"image": positions, "index": ("image", positions), "along": steps, "across": steps})


def _plane(model: nn.Module, data: Data, position: int, steps: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses and predictions on the grid (along, across) of one image."""
    (batch,) = data.select([position]).batches(1, device_of(model))
    x = batch.x.to(next((p.dtype for p in model.parameters()), batch.x.dtype))
    along = input_gradient(model, x, Goal(batch.y)).sign()
    across = normal(x, ImageGenerator(stream_seed(seed, "landscape"), [position])).sign()
    box = Box(0.0, 1.0) if data.kind == "image" else Box(-1.0, 1.0)
    a, b = (torch.as_tensor(g.ravel()).to(x) for g in np.meshgrid(steps, steps, indexing="ij"))
    rows = torch.arange(len(a)).split(batch_size(data.shape, 1, x.device))
    logits = torch.cat([predict(model, box.clip(x + _times(a[r], along) + _times(b[r], across))) for r in rows])
    losses = torch.nn.functional.cross_entropy(widened(logits), batch.y.expand(len(a)), reduction="none")
    return tuple(part.cpu().numpy().reshape(len(steps), -1) for part in (losses, logits.argmax(1)))


def _times(amount: Tensor, direction: Tensor) -> Tensor:
    """(n,) amounts of one direction (1, ...)."""
    return amount.view(-1, *[1] * (direction.ndim - 1)) * direction
