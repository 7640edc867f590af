"""torch Datasets and DataLoaders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)
from tqdm.auto import tqdm

from netprobe.data.arrays import open_pair
from netprobe.data.canonical import as_inputs, as_labels, class_names, layout_of
from netprobe.data.source import Source, choose_split
from netprobe.errors import NetprobeError

READ_AT_ONCE = 256


def open_dataset(
    dataset: Dataset,
    split: str | None,
    *,
    layout: str | None = None,
    classes: Iterable[str] | None = None,
    name: str | None = None,
) -> Source:
    """A Dataset of pairs (x, y): x a tensor, array or Pillow image, y a class index.

    Read once, in order. With `limit`, a Dataset that knows its `targets` (torchvision's do, and their
    Subsets) is asked only for the samples kept; another one is read to its end first. Class names come from
    its `classes`. Options: see `arrays.open_pair`.
    """
    # An array already: no need to take it apart and put it together again.
    if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
        return open_pair(dataset.tensors, split, layout=layout, classes=classes, name=name or "TensorDataset")
    loader = DataLoader(dataset, batch_size=READ_AT_ONCE, collate_fn=_collate)
    return open_loader(loader, split, layout=layout, classes=classes, name=name)


def open_loader(
    loader: DataLoader,
    split: str | None,
    *,
    layout: str | None = None,
    classes: Iterable[str] | None = None,
    name: str | None = None,
) -> Source:
    """A DataLoader of pairs (x, y), read with its own workers and `collate_fn`; see `open_dataset`.

    Every item is read once, in the order of `loader.dataset`, also when the loader shuffles or drops a last
    batch: results name samples by their position. A loader with a sampler of another kind is an error.
    """
    _check_sampler(loader)
    dataset = loader.dataset
    name = name or type(dataset).__name__
    part = choose_split(split, ("all",), name)
    classes = classes or classes_of(dataset)
    labels = targets_of(dataset)
    if labels is None:
        x, y = _read(loader)
        return open_pair((x, y), split, layout=layout, classes=classes, name=name)

    def read(index: np.ndarray) -> Tensor:
        x, y = _read(loader, index)
        if not np.array_equal(as_labels(y), labels[index]):
            raise NetprobeError(f"{name}.targets disagrees with the labels of its items: pass tensors (x, y) instead")
        return as_inputs(x, layout_of(x, layout))

    return Source(name, part, labels, class_names(labels, classes), read)


def targets_of(dataset: Dataset) -> np.ndarray | None:
    """(N,) the labels that a Dataset knows without reading its inputs, or None."""
    if isinstance(dataset, Subset):
        inner = targets_of(dataset.dataset)
        return None if inner is None else inner[np.asarray(dataset.indices)]
    targets = getattr(dataset, "targets", None)
    if targets is None or getattr(dataset, "target_transform", None) is not None:
        return None
    return as_labels(targets)


def classes_of(dataset: Dataset) -> Iterable[str] | None:
    """The class names that a Dataset, or the one it is a Subset of, knows, or None."""
    return classes_of(dataset.dataset) if isinstance(dataset, Subset) else getattr(dataset, "classes", None)


def _check_sampler(loader: DataLoader) -> None:
    sampler = loader.sampler
    shuffled = isinstance(sampler, RandomSampler) and not sampler.replacement and len(sampler) == len(loader.dataset)
    complete = isinstance(sampler, SequentialSampler) or shuffled
    if not isinstance(loader.dataset, IterableDataset) and not (
        complete and type(loader.batch_sampler) is BatchSampler
    ):
        raise NetprobeError(
            "the DataLoader chooses samples by a sampler of its own, so not every item would be read once: "
            "pass loader.dataset, or a torch.utils.data.Subset of it"
        )


def _read(loader: DataLoader, index: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """All inputs and labels, or those at the positions `index`."""
    batches = [_pair(batch) for batch in tqdm(_again(loader, index), "data", delay=2, leave=False)]
    if not batches:
        raise NetprobeError(f"{type(loader.dataset).__name__} has no items")
    try:
        xs, ys = zip(*batches, strict=True)
        return torch.cat([torch.as_tensor(x) for x in xs]), torch.cat([torch.as_tensor(y) for y in ys])
    except RuntimeError as error:
        raise _unequal(error) from error


def _again(loader: DataLoader, index: np.ndarray | None) -> DataLoader:
    """The same loader over some of its items. Its own generator keeps the global random state as it is."""
    dataset = loader.dataset if index is None else Subset(loader.dataset, index.tolist())
    return DataLoader(
        dataset,
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        worker_init_fn=loader.worker_init_fn,
        generator=torch.Generator(),
    )


def _collate(items: Sequence[Any]) -> tuple[Tensor, Tensor]:
    xs, ys = zip(*map(_pair, items), strict=True)
    try:
        return torch.stack([_tensor(x) for x in xs]), torch.as_tensor(np.asarray(ys))
    except RuntimeError as error:
        raise _unequal(error) from error


def _pair(item: Any) -> Sequence[Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise NetprobeError(f"the Dataset must give pairs (x, y), it gives {type(item).__name__}: wrap it")
    return item


def _tensor(x: Any) -> Tensor:
    """Tensors and arrays as they are, Pillow images as (C, H, W)."""
    if isinstance(x, Tensor):
        return x
    if hasattr(x, "convert"):
        from netprobe.data.images import to_array

        x = to_array(x, channels=1 if x.mode in ("1", "L") else 3)
    return torch.from_numpy(np.array(x))


def _unequal(error: RuntimeError) -> NetprobeError:
    return NetprobeError(f"the items differ in shape ({error}): give the Dataset a transform that resizes them")
