"""The term itself: how similar the network finds pairs of images, against how similar it should."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, softmax
from torch.nn.modules.batchnorm import _BatchNorm

from netprobe.data.dataset import to_float
from netprobe.defenses.regularisers.base import Penalty, Step, Survey, wide
from netprobe.defenses.regularisers.similarity.agreement import Agreement
from netprobe.defenses.regularisers.similarity.pair_stream import PairStream
from netprobe.errors import NetprobeError
from netprobe.guard import undisturbed
from netprobe.processes import Processes
from netprobe.sites import Site, listening

if TYPE_CHECKING:
    from netprobe.defenses.regularisers.similarity.regulariser import Similarity

ETA = 1e-5
"""Keeps the Fisher transform of similarities of 1 finite: 12.2."""


class Matching(Penalty):
    """R of `Similarity` for one network; `images` (N, C, H, W) as they are stored, pairs of them in `stream`.

    It learns `raw_weights`, of which the weights of the sites are the softmax.
    """

    def __init__(self, settings: Similarity, at: Sequence[Site], images: Tensor, stream: PairStream) -> None:
        super().__init__()
        self.settings, self.at, self.stream = settings, list(at), stream
        self.register_buffer("images", images, persistent=False)
        learnt = settings.coupling > 0  # else nothing would flow to them
        self.raw_weights = nn.Parameter(torch.zeros(len(self.at)), requires_grad=learnt)
        for place, site in enumerate(self.at):
            self.register_buffer(f"mean_{place}", torch.zeros(site.channels))
        self.agreement, self.cursor = Agreement(len(self.at)), 0

    @property
    def weights(self) -> Tensor:
        """Of the sites, positive, with the sum 1."""
        return softmax(self.raw_weights, 0)

    def get_extra_state(self) -> dict[str, Any]:
        """Where the stream of pairs is: a number of the host, so that no step waits for the device."""
        return {"cursor": self.cursor}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.cursor = state["cursor"]

    def begin_epoch(self, model: nn.Module, survey: Survey, together: Processes) -> None:
        self.agreement.clear()

    def forward(self, model: nn.Module, step: Step) -> Tensor:
        pairs = self.stream.take(self.cursor, self.settings.pairs)
        self.cursor = pairs.cursor
        own = step.share(torch.arange(len(pairs.target)))
        with contextlib.nullcontext() if self.settings.coupling else torch.no_grad():
            at = self._similarities(model, pairs.first[own], pairs.second[own], step)
            s = at @ self.weights
            target = pairs.target[own].to(s)
            self.agreement.add(s, target, at)
            return step.total(distance(s, target, self.settings.measure).sum()) / len(pairs.target)

    def _similarities(self, model: nn.Module, first: Tensor, second: Tensor, step: Step) -> Tensor:
        """s (pairs, sites): cosines between the maps of two images, each channel less its running mean."""
        updates = self.settings.statistics == "both" and self.settings.coupling > 0
        with contextlib.nullcontext() if updates else statistics_kept(model), step.precision():
            one, other = (self._maps(model, images) for images in (first, second))
        return torch.stack([self._cosine(k, *pair, step) for k, pair in enumerate(zip(one, other, strict=True))], 1)

    def _maps(self, model: nn.Module, places: Tensor) -> list[Tensor]:
        return maps(model, self.at, to_float(self.images[places.to(self.images.device)]))

    def _cosine(self, place: int, one: Tensor, other: Tensor, step: Step) -> Tensor:
        one, other = wide(one), wide(other)
        mean = self._moved_mean(place, one.detach(), other.detach(), step)[:, None, None]
        return cosine_similarity((one - mean).flatten(1), (other - mean).flatten(1), dim=1)

    @torch.no_grad()
    def _moved_mean(self, place: int, one: Tensor, other: Tensor, step: Step) -> Tensor:
        """The running mean of the channels, with a share of this step's."""
        rows = one.new_tensor(float(2 * one[:, 0].numel()))
        mean = step.total(one.sum((0, 2, 3)) + other.sum((0, 2, 3))) / step.total(rows)
        return getattr(self, f"mean_{place}").lerp_(mean, 1 - self.settings.decay)

    def records(self, together: Processes) -> dict[str, float]:
        correlation, means = self.agreement.told(together)
        found = {} if correlation is None else {"correlation": correlation}
        for site, weight, mean in zip(self.at, self.weights.tolist(), means, strict=True):
            found |= {f"weight_{site.name}": weight, f"at_{site.name}": mean}
        return found

    @property
    def described(self) -> dict[str, tuple[str, str, str]]:
        found = {"correlation": ("similarity to target", "1", "Pearson's r over the epoch's pairs, of sum_l w_l s_l")}
        for site in self.at:
            found[f"weight_{site.name}"] = (f"weight of {site.name}", "1", "softmax, as learnt by the end of the epoch")
            found[f"at_{site.name}"] = (f"similarity at {site.name}", "1", "mean over the epoch's pairs")
        return found


def distance(similarity: Tensor, target: Tensor, measure: str) -> Tensor:
    """(f(S) - f(T))^2, f(s) = ln((1 + s + eta) / (1 - s + eta)) for "fisher", f(s) = s for "mse"."""
    if measure == "fisher":
        similarity, target = (((1 + s + ETA) / (1 - s + ETA)).log() for s in (similarity.clamp(-1, 1), target))
    return (similarity - target).square()


class _Enough(Exception):
    """All that was asked for has been seen."""


def maps(model: nn.Module, sites: Sequence[Site], x: Tensor) -> list[Tensor]:
    """What is at these sites for x (B, C, H, W); nothing is run behind the last, so that x may have any size."""
    found: dict[str, Tensor] = {}

    def keep(site: Site, tensor: Tensor) -> None:
        found[site.name] = tensor.clone()  # which may be overwritten in place
        if len(found) == len(sites):
            raise _Enough

    with listening(model, list(sites), keep), contextlib.suppress(_Enough):
        model(x)
    return [found[site.name] for site in sites]


def check_maps(model: nn.Module, sites: Sequence[Site], x: Tensor) -> None:
    """Refuse images that the network cannot take up to the last site."""
    try:
        with undisturbed(model), torch.no_grad():
            maps(model, sites, x)
    except RuntimeError as error:
        size = "×".join(map(str, x.shape[2:]))
        raise NetprobeError(
            f"the network takes no images of {size} pixels up to {sites[-1].name!r} ({error}): "
            "give the size of the training images (size=...)"
        ) from error


@contextlib.contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Inside, batch norm normalises by the batch as in training, but no running statistic moves."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
