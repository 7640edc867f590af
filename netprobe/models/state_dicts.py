"""State dicts: found in what a file holds, renamed to the model's names, and fitted into it."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netprobe.errors import CheckpointError, unknown
from netprobe.models.normalize import statistics

#: Names under which training code puts the state dict of a model, the likeliest first, averages of weights last.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
AVERAGES = ("ema", "model_ema", "state_dict_ema", "ema_state_dict")

#: What wrappers of models (DataParallel, compile, Lightning, Normalized) put before every name.
PREFIXES = ("module", "_orig_mod", "model", "net")

#: A buffer that a normalising wrapper puts in front of the network.
STATISTIC = re.compile(
    rf"(?P<head>(({'|'.join(PREFIXES)})\.)*((normali[sz]er?|normali[sz]ation|0)\.)?)(?P<which>mean|std|mu|sigma)"
)

#: What old files lack in every batch normalisation, and nothing needs in eval mode.
COUNTER = "num_batches_tracked"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A state dict in a file: where it was, which other ones there are, and what in it is no tensor."""

    state: dict[str, Tensor]
    where: str
    others: tuple[str, ...]
    ignored: tuple[str, ...]


def find(contents: object, key: str | None = None, file: object = "the checkpoint") -> Found:
    """The state dict in the `contents` of a `file`: at `key` ("ema", "model.state_dict") or under the usual wrappers.

    Of several under the usual names, the likeliest: any before averages of weights, then less deep, then the
    order of `WRAPPERS`; bare tensors only where no wrapper is.
    """
    held = {".".join(path): (path, state) for path, state in _state_dicts(contents)}
    if key is not None and key not in held:
        raise unknown(f"key in {file}", key, held, "These are what holds tensors in it.")
    usual = [path for path, _ in held.values() if set(path) <= {*WRAPPERS, *AVERAGES}]
    if key is None and not usual:
        raise CheckpointError(f"{file} has no state dict under the usual names: {_described(contents, held)}")
    where = key if key is not None else ".".join(min(usual, key=_unlikeliness))
    state = held[where][1]
    weights = {name: value for name, value in state.items() if _belongs(name, value)}
    ignored = tuple(str(name) for name in state if name not in weights)
    return Found(weights, where, tuple(other for other in held if other != where), ignored)


def _state_dicts(contents: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    """Every dict in `contents`, at any depth, that holds tensors by name; single numbers are no weights."""
    if isinstance(contents, nn.Module):
        contents = contents.state_dict()
    if not isinstance(contents, Mapping):
        return
    named = {name: value for name, value in contents.items() if isinstance(name, str)}
    if any(isinstance(value, Tensor) and value.ndim for value in named.values()):
        yield path, contents
    for name, value in named.items():
        yield from _state_dicts(value, (*path, name))


def find_module(contents: object, key: str | None = None) -> nn.Module | None:
    """The module that was pickled whole: `contents` itself, or at `key`, or under the usual names; None if none."""
    if isinstance(contents, nn.Module):
        return contents
    held = contents if isinstance(contents, Mapping) else {}
    names = (*WRAPPERS, *AVERAGES) if key is None else (key,)
    return next((held[name] for name in names if isinstance(held.get(name), nn.Module)), None)


def _unlikeliness(path: tuple[str, ...]) -> tuple:
    order = (*WRAPPERS, *AVERAGES)
    return any(name in AVERAGES for name in path), not path, len(path), [order.index(name) for name in path]


def _belongs(name: object, value: object) -> bool:
    return isinstance(name, str) and (isinstance(value, Tensor) or name.endswith("_extra_state"))


def _described(contents: object, held: Iterable[str]) -> str:
    if elsewhere := list(itertools.islice(held, 12)):
        return f"the file has tensors under {', '.join(map(repr, elsewhere))}; choose with key="
    if isinstance(contents, Mapping):
        entries = [f"{name} ({type(value).__name__})" for name, value in contents.items()]
        return f"the file holds no tensors by name, only {', '.join(entries[:12]) or 'an empty dict'}"
    return f"the file holds a {type(contents).__name__}, not a dict of tensors by name"


def renamed(found: Found, names: Mapping[str, str], file: object = "the checkpoint") -> Found:
    """`found` with other names: what a name begins with, up to a dot or its end, is replaced where it is in `names`.

    The longest key counts, and "" begins every name. Errors: a key that no name begins with; two names that become one.
    """
    changed = {name: _renamed(name, names) for name in found.state}
    for key in names:
        if not any(_begins(name, key) for name in changed):
            heads = sorted({".".join(name.split(".")[: n + 1]) for name in changed for n in range(name.count(".") + 1)})
            raise unknown(f"name in {file}", key, heads, "Keys of `names` are what names in the checkpoint begin with.")
    twice = [new for new in changed.values() if list(changed.values()).count(new) > 1]
    if twice:
        raise CheckpointError(f"`names` gives several tensors of {file} the one name {twice[0]!r}")
    state = {new: found.state[old] for old, new in changed.items()}
    return dataclasses.replace(found, state=state)


def _renamed(name: str, names: Mapping[str, str]) -> str:
    key = max((key for key in names if _begins(name, key)), key=len, default=None)
    if key is None:
        return name
    return ".".join(part for part in (names[key].strip("."), name[len(key) :].strip(".")) if part)


def _begins(name: str, key: str) -> bool:
    return not key or f"{name}.".startswith(f"{key.rstrip('.')}.")


def split_normalization(
    state: Mapping[str, Tensor], model: nn.Module
) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None]:
    """`state` without the mean and std that a wrapper normalising in front of the model saved, and those.

    Such a pair (`normalize.mean` and `normalize.std`, `0.mean` and `0.std`, `mu` and `sigma`) is taken out only
    if the model has no such names itself. Where the wrapper was nn.Sequential(normalize, net), the `1.` before
    the other names goes too.
    """
    own = {name.rpartition(".")[2] for name in model.state_dict()}
    buffers = {name: match for name in state if (match := STATISTIC.fullmatch(name)) and match["which"] not in own}
    heads = {match["head"] for match in buffers.values()}
    if len(heads) != 1 or {match["which"] for match in buffers.values()} not in ({"mean", "std"}, {"mu", "sigma"}):
        return dict(state), None
    mean, std = (state[name] for name in sorted(buffers))
    rest = {name: value for name, value in state.items() if name not in buffers}
    before = heads.pop()
    if before.endswith("0."):
        rest = {name.removeprefix(before[:-2] + "1."): value for name, value in rest.items()}
    return rest, statistics((mean.flatten(), std.flatten()))


@dataclass(frozen=True)
class Fit:
    """How a state dict went into a model: names as they are in the model, of unexpected ones as in the file."""

    matched: int
    prefix: str
    missing: dict[str, Shape]
    unexpected: dict[str, Shape]
    misshapen: dict[str, tuple[Shape, Shape]]

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.misshapen)

    @property
    def classes(self) -> int | None:
        """The number of classes in the file, where the rows of one layer are all that does not fit."""
        layers = {name.rpartition(".")[0] for name in self.misshapen}
        rows = {theirs[:1] if ours[1:] == theirs[1:] else () for ours, theirs in self.misshapen.values()}
        if self.missing or self.unexpected or len(layers) != 1 or len(rows) != 1:
            return None
        return next(iter(rows.pop()), None)

    def summary(self) -> str:
        wanted = self.matched + len(self.missing) + len(self.misshapen)
        return (
            f"of the model's {wanted} tensors {self.matched} fit, {len(self.missing)} are missing and "
            f"{len(self.misshapen)} misshapen; {len(self.unexpected)} in the file are unexpected"
        )

    def listing(self) -> str:
        """Every name that does not fit, with its shape and the nearest names on the other side."""
        groups = {
            "missing (the model has them, the checkpoint does not)": [
                _beside(name, shape, self.unexpected) for name, shape in self.missing.items()
            ],
            "unexpected (the checkpoint has them, the model does not)": [
                _beside(name, shape, self.missing) for name, shape in self.unexpected.items()
            ],
            "misshapen": [
                f"  {name}: {ours} in the model, {theirs} in the checkpoint"
                for name, (ours, theirs) in self.misshapen.items()
            ],
        }
        return "\n".join("\n".join([f"{title}:", *lines]) for title, lines in groups.items() if lines)


def _beside(name: str, shape: Shape, others: Mapping[str, Shape]) -> str:
    """A line on `name` with the nearest of `others`."""
    parts = name.split(".")
    leaf_alike = [other for other in others if other.rpartition(".")[2] == parts[-1]]
    candidates = [other for other in leaf_alike if others[other] == shape] or leaf_alike
    # Parts in common first: comparing letters with every name of a large network takes minutes.
    candidates.sort(key=lambda other: -len(set(parts).intersection(other.split("."))))
    nearest = difflib.get_close_matches(name, candidates[:8], n=2, cutoff=0.4)
    return f"  {name} {shape}" + (f"   nearest: {', '.join(nearest)}" if nearest else "")


def fit(model: nn.Module, state: Mapping[str, Tensor]) -> Fit:
    """Load all of `state` that fits into `model`, and tell what does not.

    Prefixes of wrappers are dropped on either side so that most names agree. Two kinds of tensor are not called
    missing: batch counters, which old files lack, and a tensor that the model shares with one that was loaded.
    """
    own = model.state_dict(keep_vars=True)
    prefix, origins = _origins(own, state)
    misshapen = {
        name: (_shape(own[name]), _shape(state[origin]))
        for name, origin in origins.items()
        if name in own and not _same_shape(own[name], state[origin])
    }
    loaded = {name: state[origin] for name, origin in origins.items() if name not in misshapen}
    missing, unexpected = _load_into(model, loaded)
    present = {id(own[name]) for name in loaded if name in own}
    missing = [n for n in missing if n not in misshapen and id(own.get(n)) not in present]
    taken = {origin for name, origin in origins.items() if name not in unexpected}
    return Fit(
        matched=len(loaded) - len(unexpected),
        prefix=prefix,
        missing={n: _shape(own.get(n)) for n in missing},
        unexpected={n: _shape(state[n]) for n in state if n not in taken},
        misshapen=misshapen,
    )


def same_names(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether `state` has the names of `model`; prefixes, batch counters and normalisation in front do not count."""
    own = model.state_dict()
    state, _ = split_normalization(state, model)
    both = [{name for name in names if not name.endswith(COUNTER)} for names in (own, _origins(own, state)[1])]
    return both[0] == both[1] and len(own) > 0


def _origins(own: Iterable[str], names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The prefix to drop from a file's names, and the name in the file for each name in the model."""
    ours = {_plain(name): name for name in own}
    theirs = {_plain(name): name for name in names}

    def renamed(add: str, drop: str) -> dict[str, str]:
        return {add + plain[len(drop) :]: name for plain, name in theirs.items() if plain.startswith(drop)}

    pairs = sorted(itertools.product(_prefixes(ours), _prefixes(theirs)), key=lambda pair: len("".join(pair)))
    add, drop = max(pairs, key=lambda pair: len(ours.keys() & renamed(*pair).keys()))
    return drop, {ours.get(plain, plain): name for plain, name in renamed(add, drop).items()}


def _prefixes(names: Iterable[str]) -> set[str]:
    """The empty prefix, and every run of `PREFIXES` that some name begins with."""
    found = {""}
    for name in names:
        run = itertools.takewhile(PREFIXES.__contains__, name.split(".")[:-1])
        found |= set(itertools.accumulate(f"{part}." for part in run))
    return found


def _plain(name: str) -> str:
    """torch.compile renames whatever it compiled, at any depth."""
    return name.replace("_orig_mod.", "")


def _load_into(model: nn.Module, state: dict[str, Tensor]) -> tuple[list[str], list[str]]:
    # Through torch, not by copying: modules may translate the names of their older versions. A plain dict states
    # no version, so torch takes it for an old one, which may lack batch counters.
    try:
        return model.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"the model refuses the state dict: {error}") from error


def _same_shape(ours: Tensor, theirs: Tensor) -> bool:
    """torch fills lazy parameters from any shape, and reads one number from a vector of one."""
    if not isinstance(ours, Tensor) or torch.nn.parameter.is_lazy(ours):
        return True
    return ours.shape == theirs.shape or (ours.ndim == 0 and theirs.shape == (1,))


def _shape(value: object) -> Shape:
    return tuple(value.shape) if isinstance(value, Tensor) else ()
