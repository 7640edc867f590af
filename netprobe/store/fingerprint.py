"""What a value is, as a hash that is the same in every process: the key of everything computed from it."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import types
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

FORGOTTEN = {"training", "netprobe_source"}
"""Attributes of modules that say nothing about what they compute: the mode is set, and the place of a file may move."""


def fingerprint(value: Any) -> str:
    """SHA-256, in hex, of what `value` is: numbers, tensors by their content, models, callables, or any mix of them.

    A module is its class with that class's source code, its parameters, buffers and public attributes, and its
    children; so a model with another `forward` or another `scale` is another model, even with equal weights. A function
    is its source code, its defaults and what it encloses; any other object its class and its attributes. What no
    source can be had for counts by its name alone. Equal content gives equal hashes on every machine.
    """
    return _digest(json.dumps(_described(value, ()), sort_keys=True).encode())


def _described(value: Any, inside: tuple[int, ...]) -> Any:
    """`value` in JSON's terms; `inside` are the objects that it is a part of, so that circles end."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in inside:
        return "circle"
    inside = (*inside, id(value))
    for kinds, describe in _DESCRIBED:
        if isinstance(value, kinds):
            return [kinds[0].__name__, describe(value, inside)]
    return [_named(type(value), inside), _described(getattr(value, "__dict__", {}), inside)]


def _tensor(tensor: Tensor, inside: tuple[int, ...]) -> list:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return [str(tensor.dtype), list(tensor.shape), _digest(flat.view(torch.uint8).numpy().data)]


def _array(array: np.ndarray, inside: tuple[int, ...]) -> list:
    return [str(array.dtype), list(array.shape), _digest(np.ascontiguousarray(array).tobytes())]


def _module(module: nn.Module, inside: tuple[int, ...]) -> list:
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    settings = {k: v for k, v in vars(module).items() if not k.startswith("_") and k not in FORGOTTEN}
    parts = (dict(tensors), settings, dict(module.named_children()))
    return [_named(type(module), inside), *(_described(part, inside) for part in parts)]


def _function(function: types.FunctionType, inside: tuple[int, ...]) -> list:
    enclosed = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    defaults = [function.__defaults__, function.__kwdefaults__, enclosed]
    return [function.__qualname__, _source(function), _described(defaults, inside)]


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # what Python raises for a variable that is not assigned yet
        return False


def _partial(partial: functools.partial, inside: tuple[int, ...]) -> Any:
    return _described([partial.func, list(partial.args), partial.keywords], inside)


def _named(cls: type, inside: tuple[int, ...]) -> list[str]:
    return [f"{cls.__module__}.{cls.__qualname__}", _source(cls)]


@functools.lru_cache(maxsize=4096)  # a class is read and parsed once, not for every chunk of images
def _source(named: Any) -> str:
    """The source code; none of what torch's version tells already, or of what has none."""
    if str(named.__module__).partition(".")[0] in ("torch", "builtins", "numpy"):
        return ""
    try:
        return inspect.getsource(named)
    except (OSError, TypeError):  # typed in at a prompt, or compiled
        return ""


def _items(mapping: Mapping, inside: tuple[int, ...]) -> list:
    return sorted(([str(key), _described(value, inside)] for key, value in mapping.items()), key=lambda item: item[0])


def _several(values: Any, inside: tuple[int, ...]) -> list:
    return [_described(value, inside) for value in values]


def _members(members: Set, inside: tuple[int, ...]) -> list:
    return sorted(json.dumps(_described(member, inside)) for member in members)


_DESCRIBED: tuple[tuple[tuple, Any], ...] = (
    ((Tensor,), _tensor),
    ((np.ndarray,), _array),
    ((nn.Module,), _module),
    ((types.FunctionType,), _function),
    ((types.MethodType,), lambda method, inside: _described([method.__func__, method.__self__], inside)),
    ((functools.partial,), _partial),
    ((type,), _named),
    ((Mapping,), _items),
    ((list, tuple), _several),
    ((Set,), _members),
    ((bytes,), lambda value, inside: _digest(value)),
    ((torch.dtype, torch.device, np.generic, types.BuiltinFunctionType), lambda value, inside: repr(value)),
    ((torch.Generator,), lambda generator, inside: generator.initial_seed()),
)


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()
