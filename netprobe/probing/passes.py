"""One model's way through the data: clean and perturbed images together, statistics taken inside the hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from netprobe import perturb
from netprobe.data import Data
from netprobe.devices import batch_size, device_of, seed_everywhere
from netprobe.guard import full_precision, undisturbed, undivided
from netprobe.outputs import logits_of
from netprobe.perturb.randomness import stream_seed
from netprobe.probing.kernels import KernelReduction, Slice, SliceStore, completed, plan
from netprobe.probing.observables import Observation, in_one_reading
from netprobe.probing.partial import Partial
from netprobe.probing.reductions import compiling
from netprobe.settings import ProbeSettings, in_bytes
from netprobe.sites import Site, listening


class Pass:
    """One model's way through the data: the streaming pass, then the passes for the kernels."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        data: Data,
        named: Mapping[str, Callable],
        gathered: Partial,
        chosen: ProbeSettings,
    ) -> None:
        self.name, self.data, self.perturbations, self.chosen = name, data, named, chosen
        self.part, self.conditions = gathered.models[name], gathered.conditions
        self.device = torch.device(chosen.device) if chosen.device else device_of(model)
        self.dtype = getattr(torch, chosen.dtype)
        self.model = self._placed(model)
        self.paired = gathered.paired(name) if chosen.paired is None else chosen.paired
        self.batch_size = chosen.batch_size or self._fitting_batch()
        self.memory_format = self._memory_format()
        self.kept: list[Tensor] | None = [] if self._worth_keeping() else None

    def _placed(self, model: nn.Module) -> nn.Module:
        """The model itself, or a copy where it would have to be moved or cast: the user's stays as it is."""
        parameter = next(model.parameters(), None)
        if parameter is None or (parameter.device == self.device and parameter.dtype == self.dtype):
            return model
        return copy.deepcopy(model).to(self.device, self.dtype)

    def _fitting_batch(self) -> int:
        return batch_size(self.data.shape, len(self.conditions), self.device, self.part.widest)

    def _memory_format(self) -> torch.memory_format:
        """Channels as the fastest axis, which makes rows of channels free to look at, where the model can take it.

        `x.view(len(x), -1)` of such a tensor fails, so one forward pass of two images tells.
        """
        if len(self.data.shape) != 3:
            return torch.contiguous_format
        x = next(iter(self.data.select([0, 0]).batches(2, self.device))).x.to(self.dtype)
        try:
            with undisturbed(self.model), torch.no_grad():
                self.model(x.clone(memory_format=torch.channels_last))
        except RuntimeError:
            return torch.contiguous_format
        return torch.channels_last

    def _worth_keeping(self) -> bool:
        """Whether to keep the perturbed images for the kernel passes, or to make them again."""
        size = 4 * len(self.data) * len(self.conditions) * int(np.prod(self.data.shape))
        whole = len(self.part.pending) == len(self.data)
        return whole and bool(self.part.kernels_pending) and size <= in_bytes(self.chosen.memory)

    def run(self, flush: Callable[[], None]) -> None:
        """Do what is pending."""
        with undisturbed(self.model), full_precision(), compiling(self.chosen.compile), torch.no_grad():
            if self.part.pending:
                self._stream(flush)
            if self.part.kernels_pending:
                self._reduce_kernels(flush)

    def _stream(self, flush: Callable[[], None]) -> None:
        observables = {
            site: in_one_reading([o for o in keyed.values() if not isinstance(o, KernelReduction)])
            for site, keyed in self.part.observables.items()
        }
        sites = [self.part.sites[name] for name, some in observables.items() if some]

        def update(observation: Observation) -> None:
            for observable in observables[observation.site.name]:
                observable.update(observation)

        for images, y, inputs in self._perturbed(self.part.pending, self.name):
            with undivided():
                logits = self._forward(inputs, sites, images, update)
                outcomes = torch.cat([y[None], logits.argmax(-1).view(len(self.conditions), -1)]).T
                self.part.outcomes.update(images, outcomes)
                done = set(images.tolist())
                self.part.pending = [i for i in self.part.pending if i not in done]
            flush()

    def _perturbed(self, positions: Sequence[int], description: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches of image positions, labels, and inputs (conditions * batch, ...), clean first."""
        chosen = self.data if len(positions) == len(self.data) else self.data.select(list(positions))
        positions = torch.as_tensor(positions)
        with tqdm(total=len(positions), desc=description, unit="image", disable=not self.chosen.progress) as bar:
            for batch in chosen.batches(self.batch_size, self.device):
                images = positions[batch.index]
                inputs = self._conditions(batch.x.to(self.dtype), batch.y, images)
                if self.kept is not None:
                    self.kept.append(inputs.cpu())
                yield images, batch.y, inputs
                bar.update(len(images))

    def _conditions(self, x: Tensor, y: Tensor, images: Tensor) -> Tensor:
        inputs = [x]
        for name, perturbation in self.perturbations.items():
            seed = stream_seed(self.chosen.seed, name)
            seed_everywhere(seed + int(images[0]))  # for callables that draw from the global state
            generator = perturb.ImageGenerator(seed, images)
            inputs.append(perturb.apply(perturbation, self.model, x.clone(), y, generator=generator))
        return torch.cat(inputs)

    def _forward(
        self, inputs: Tensor, sites: list[Site], images: Tensor, update: Callable[[Observation], None]
    ) -> Tensor:
        """Logits of all conditions, every site's tensor handed to `update` on the way.

        The model gets a copy, which it may write to.
        """
        inputs = inputs.clone(memory_format=self.memory_format)
        if self.paired:
            return self._paired(inputs, sites, images, update)
        return self._one_by_one(inputs, sites, images, update)

    def _paired(self, inputs: Tensor, sites: list[Site], images: Tensor, update: Callable) -> Tensor:
        def hand_over(site: Site, tensor: Tensor) -> None:
            update(Observation(site, tensor, images, len(self.conditions)))

        with listening(self.model, sites, hand_over):
            return logits_of(self.model(inputs), len(inputs))

    def _one_by_one(self, inputs: Tensor, sites: list[Site], images: Tensor, update: Callable) -> Tensor:
        """For models whose samples interact: each condition by itself, its activations kept until all are there."""
        seen: dict[Site, list[Tensor]] = {site: [] for site in sites}
        logits = []
        with listening(self.model, sites, lambda site, tensor: seen[site].append(tensor.clone())):
            for condition in inputs.chunk(len(self.conditions)):
                logits.append(logits_of(self.model(condition), len(condition)))
        for site, tensors in seen.items():
            update(Observation(site, torch.cat(tensors), images, len(self.conditions)))
        return torch.cat(logits)

    def _kernel_groups(self) -> list[list[Slice]]:
        sites = [self.part.sites[name] for name in self.part.kernels_pending]
        return plan(sites, len(self.data), len(self.conditions), in_bytes(self.chosen.memory), self.dtype)

    def _reduce_kernels(self, flush: Callable[[], None]) -> None:
        """Pass after pass, as many units as the memory budget holds; a site is reduced when its last slice is in."""
        kernels: dict[str, dict[tuple[int, int], Tensor]] = {}
        for number, group in enumerate(self._kernel_groups(), 1):
            for store in self._filled(group, f"{self.name}, kernels {number}"):
                site = store.part.site
                store.add_to(kernels.setdefault(site.name, self._empty_kernels(site)))
                for reduction in self._reductions(site):
                    reduction.see(store)
                if store.part.stop == site.units:
                    self._finish(site, kernels.pop(site.name))
            flush()

    def _filled(self, group: list[Slice], description: str) -> list[SliceStore]:
        size = len(self.data), len(self.conditions)
        stores = [SliceStore(part, *size, self.device, self.dtype) for part in group]
        by_site = {store.part.site.name: store for store in stores}
        first = 0

        def update(observation: Observation) -> None:
            by_site[observation.site.name].update(observation, first)

        for images, inputs in self._again(description):
            self._forward(inputs, [store.part.site for store in stores], images, update)
            first += len(images)
        return stores

    def _again(self, description: str) -> Iterator[tuple[Tensor, Tensor]]:
        """The images of the streaming pass once more: kept, or made again with the same random draws."""
        if self.kept is None:
            for images, _, inputs in self._perturbed(range(len(self.data)), description):
                yield images, inputs
            return
        first = 0
        for inputs in tqdm(self.kept, desc=description, unit="batch", disable=not self.chosen.progress):
            count = len(inputs) // len(self.conditions)
            yield torch.arange(first, first + count), inputs.to(self.device)
            first += count

    def _empty_kernels(self, site: Site) -> dict[tuple[int, int], Tensor]:
        n = len(self.data)
        pairs = set().union(*(o.pairs(self.conditions) for o in self._reductions(site)))
        return {pair: torch.zeros(n, n, dtype=torch.float64, device=self.device) for pair in sorted(pairs)}

    def _reductions(self, site: Site) -> list[KernelReduction]:
        return [o for o in self.part.observables[site.name].values() if isinstance(o, KernelReduction)]

    def _finish(self, site: Site, kernels: dict[tuple[int, int], Tensor]) -> None:
        whole = completed(kernels)
        for observable in self._reductions(site):
            observable.results = observable.reduce(whole, self.conditions)
        self.part.kernels_pending.remove(site.name)
