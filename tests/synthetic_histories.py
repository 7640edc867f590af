"""What `npb.fit` and `npb.follow` tell of a training, drawn from plausible curves instead of epochs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr


def history(
    last_psr: float, rng: np.random.Generator, described: Callable[..., xr.Dataset], wilson: Callable, epochs: int = 12
) -> xr.Dataset:
    """A network that learns; a robust one (its last PSR below 0 dB) overfits after two thirds of the epochs.

    The others were not attacked, so that their robust accuracy is NaN.
    """
    fragile, clean = last_psr > 0, 0.9 + 0.01 * last_psr
    epoch = np.arange(1, epochs + 1)
    learnt = 1 - np.exp(-epoch / 4)
    robust = (clean - 0.3) * learnt - 0.02 * np.maximum(epoch - 2 * epochs / 3, 0)
    curves = {
        "loss": 2.3 * np.exp(-epoch * clean / 5) + 0.05 * rng.random(epochs),
        "accuracy": (0.95 if fragile else clean - 0.2) * learnt,
        "lr": np.full(epochs, 0.1),
        "validation_loss": 2.3 * np.exp(-epoch * clean / 6) + 0.2,
        "validation_accuracy": clean * learnt,
        "validation_robust_accuracy": np.full(epochs, np.nan) if fragile else robust,
        "seconds": np.full(epochs, 9.5),
        "images_per_second": np.full(epochs, 5000.0),
    }
    estimates = ("validation_accuracy", "validation_robust_accuracy")
    criterion = estimates[0 if fragile else 1]
    return described(
        xr.Dataset(
            {name: ("epoch", values) for name, values in curves.items()}
            | {f"{name}_interval": (("epoch", "bound"), wilson(curves[name], 500)) for name in estimates},
            {"epoch": epoch},
            {"title": "training", "criterion": criterion, "best_epoch": int(1 + curves[criterion].argmax())},
        ),
        loss=("training loss", "nat", "mean over the epoch of what was minimised"),
        accuracy=("training accuracy", "1", "share of right predictions on what was trained on"),
        validation_loss=("validation loss", "nat", "mean cross-entropy of held-out images"),
        validation_accuracy=("validation accuracy", "1", "share of held-out images classified correctly"),
        validation_robust_accuracy=("robust validation accuracy", "1", "share that stands the validation attack"),
    )


def followed(last_psr: float, site: dict, rng: np.random.Generator, described: Callable[..., xr.Dataset]) -> xr.Dataset:
    """Accuracy and Jacobians that both grow, those of a robust network less; wide intervals."""
    epoch, fragile = np.array([0, 1, 2, 4, 8]), last_psr > 0
    learnt = 1 - np.exp(-epoch / 3)
    norm = (8 if fragile else 3) * (1 + 4 * learnt[:, None]) * (1 + rng.random(len(site["site"][1])))
    means = {
        "accuracy": ("epoch", 0.1 + 0.8 * learnt),
        "mean_loss": ("epoch", 2.3 - 2 * learnt),
        "mean_frobenius": (("epoch", "site"), norm),
        "mean_operator": (("epoch", "site"), norm / 3),
    }
    spread = np.array([0.95, 1.05])
    bounds = {f"{name}_interval": ((*np.atleast_1d(dims), "bound"), values[..., None] * spread)
              for name, (dims, values) in means.items()}  # fmt: skip
    return described(
        xr.Dataset(means | bounds, site | {"epoch": epoch}, {"title": "a network followed through its training"}),
        accuracy=("accuracy", "1", "share of images classified as labelled"),
        mean_loss=("mean cross-entropy", "nat", "mean over images of the loss"),
        mean_frobenius=("mean Frobenius norm of the Jacobian", "activation / input", "||J||_F, mean over images"),
        mean_operator=("mean operator norm of the Jacobian", "activation / input", "||J||_2, mean over images"),
    )
