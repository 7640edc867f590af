"""From the name of a network to what builds it."""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from netprobe.errors import NetprobeError, closest, unknown
from netprobe.models import ARCHITECTURES

Constructor = Callable[..., nn.Module]

FORMS = "Or give package.module:callable, path/to/file.py:callable, torchvision:NAME, timm:NAME, or an nn.Module."


@dataclass(frozen=True)
class Blueprint:
    """How to build a network: what to call it in messages and records, and the callable that builds it."""

    label: str
    construct: Constructor

    def build(self, num_classes: int | None, arguments: Mapping[str, object]) -> nn.Module:
        """Call it by keyword; arguments that it does not take are errors."""
        if num_classes is not None:
            names, open_ended = self._parameters
            if "num_classes" not in names and not open_ended:
                raise NetprobeError(
                    f"num_classes={num_classes} has no effect on {self.label}, {self._signature}: leave it out"
                )
            arguments = {**arguments, "num_classes": num_classes}
        self._check(arguments)
        try:
            model = unwrapped(self.construct(**arguments))
        except TypeError as error:
            if "unexpected keyword argument" in str(error):  # an open-ended signature that was not so open
                raise NetprobeError(f"{self.label}: {error}") from error
            raise
        if not isinstance(model, nn.Module) or isinstance(model, torch.jit.ScriptModule):
            raise NetprobeError(f"{self.label} gave a {type(model).__name__}, not a plain nn.Module")
        return model

    def takes(self, name: str) -> bool:
        """Whether it has this parameter; an open-ended signature promises nothing."""
        return name in self._parameters[0]

    def may_take(self, name: str) -> bool:
        """Whether it has this parameter or may pass it on."""
        return self.takes(name) or self._parameters[1]

    @property
    def _parameters(self) -> tuple[list[str], bool]:
        """The names that may be given by keyword, and whether any other may be given too."""
        parameters = inspect.signature(self.construct).parameters.values()
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        return names, any(p.kind == p.VAR_KEYWORD for p in parameters)

    @property
    def _signature(self) -> str:
        return f"which takes {', '.join(self._parameters[0]) or 'no arguments'}"

    def _check(self, arguments: Mapping[str, object]) -> None:
        names, open_ended = self._parameters
        for name in arguments:
            if name not in names and not open_ended:
                raise unknown(f"argument of {self.label}", name, names)
        try:
            inspect.signature(self.construct).bind(**arguments)
        except TypeError as error:
            raise NetprobeError(f"{self.label}, {self._signature}: {error}") from error


def blueprint(what: str | nn.Module | Constructor) -> Blueprint:
    """How to build what the user calls `what`.

    A name in `ARCHITECTURES`, `torchvision:NAME`, `timm:NAME`, `path/to/file.py:callable` (the file is executed:
    naming it asks for that), `package.module:callable` (found from the working folder too), a callable, or an
    nn.Module, which is copied so that the user's own stays as it is.
    """
    if isinstance(what, nn.Module):
        return Blueprint(_qualified(type(what)), lambda: _copied(what))
    if callable(what):
        return Blueprint(_qualified(what), what)
    if not isinstance(what, str):
        raise NetprobeError(f"{what!r} names no network: give one of {', '.join(ARCHITECTURES)}. {FORMS}")
    return Blueprint(what, _named(what))


def _named(what: str) -> Constructor:
    if what in ARCHITECTURES:
        return ARCHITECTURES[what]
    library, separator, name = what.partition(":")
    if separator and library in LIBRARIES:
        return LIBRARIES[library](name)
    source, _, name = what.rpartition(":")
    if source.endswith(".py"):
        return _from_file(Path(source).expanduser(), name)
    if source:
        return _from_module(source, name)
    if what.endswith(".py"):
        raise NetprobeError(f"{what!r} is a file: say which callable in it builds the network, '{what}:NAME'")
    if Path(what).is_file():
        raise NetprobeError(f"{what!r} is a file of weights: give the architecture first, load(NAME, {what!r})")
    raise unknown("architecture", what, ARCHITECTURES, FORMS, shown=len(ARCHITECTURES))


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel and torch.compile."""
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    if isinstance(model, nn.Module) and "_orig_mod" in model._modules:
        return unwrapped(model._modules["_orig_mod"])
    return model


def _copied(model: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(unwrapped(model))
    except Exception as error:  # whatever a user's module may hold
        raise NetprobeError(
            f"the {type(model).__name__} cannot be copied ({type(error).__name__}: {error}): give the callable "
            "that builds it"
        ) from error


def _qualified(thing: object) -> str:
    return f"{thing.__module__}:{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def _torchvision(name: str) -> Constructor:
    from torchvision import models

    if name not in models.list_models():
        raise unknown("torchvision model", name, models.list_models())

    def create(*, num_classes: int | None = None, **arguments: object) -> nn.Module:
        # No weights unless asked for: loading a checkpoint must not download another one.
        classes = {} if num_classes is None else {"num_classes": num_classes}
        return models.get_model(name, **{"weights": None, **classes, **arguments})

    return create


def _timm(name: str) -> Constructor:
    try:
        import timm
    except ImportError as error:
        raise NetprobeError(f"'timm:{name}' needs the package timm: pip install 'netprobe-torch[timm]'") from error
    if not timm.is_model(name):
        raise unknown("timm model", name, timm.list_models())

    def create(*, num_classes: int | None = None, **arguments: object) -> nn.Module:
        if "checkpoint_path" in arguments:
            raise NetprobeError("checkpoint_path: timm would unpickle that file; give it as the checkpoint instead")
        return timm.create_model(name, num_classes=num_classes, **arguments)

    return create


LIBRARIES: dict[str, Callable[[str], Constructor]] = {"torchvision": _torchvision, "timm": _timm}


def _from_module(source: str, name: str) -> Constructor:
    with _import_path(Path.cwd()), _reported(source):
        module = importlib.import_module(source)
    return _attribute(module, name, source)


def _from_file(path: Path, name: str) -> Constructor:
    if not path.is_file():
        nearby = closest(path.name, (p.name for p in path.parent.glob("*.py")), n=5)
        raise NetprobeError(f"{path} does not exist; Python files in {path.parent}: {', '.join(nearby) or 'none'}")
    path = path.resolve()
    module, run = _registered(path)
    with _siblings(path.parent), _reported(str(path)):
        run(module)
    construct = _attribute(module, name, str(path))

    @functools.wraps(construct, updated=())  # the signature, not the attributes of a class
    def beside_its_siblings(**arguments: object) -> nn.Module:
        with _siblings(path.parent):
            return construct(**arguments)

    return beside_its_siblings


def _registered(path: Path) -> tuple[ModuleType, Callable[[ModuleType], None]]:
    """An empty module for the file, and what runs the file in it.

    Its name is unique to the path: two files called model.py are two modules. It is registered before it runs,
    as importing does, because dataclasses and type hints look their module up.
    """
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    return module, spec.loader.exec_module


def _attribute(module: ModuleType, name: str, source: str) -> Constructor:
    found = getattr(module, name, None)
    if isinstance(found, nn.Module):
        return lambda: _copied(found)
    if not callable(found):
        own = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise unknown(f"callable in {source}", name, own)
    return found


@contextmanager
def _reported(source: str) -> Iterator[None]:
    """Say which file failed while it was imported; a script that parses arguments there exits."""
    try:
        yield
    except (Exception, SystemExit) as error:
        hint = ""
        if "relative import" in str(error):
            hint = "; name it as package.module:callable, from the folder above its package"
        raise NetprobeError(f"importing {source} failed: {type(error).__name__}: {error}{hint}") from error


@contextmanager
def _import_path(folder: Path) -> Iterator[None]:
    """`folder` first on the import path, as when Python runs a script in it."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


@contextmanager
def _siblings(folder: Path) -> Iterator[None]:
    """`folder` on the import path, and what was imported from it forgotten afterwards.

    Two checkouts may each have a `layers.py`; the second network must not be built from the first one's.
    """
    before = set(sys.modules)
    try:
        with _import_path(folder):
            yield
    finally:
        tops = {name.partition(".")[0] for name in sys.modules.keys() - before} - before
        gone = {top for top in tops if _lies_in(sys.modules.get(top), folder)}
        for name in [name for name in sys.modules if name.partition(".")[0] in gone]:
            del sys.modules[name]


def _lies_in(module: ModuleType | None, folder: Path) -> bool:
    location = next(iter(getattr(module, "__path__", [])), None) or getattr(module, "__file__", None)
    return location is not None and Path(location).resolve().parent == folder
