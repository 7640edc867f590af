"""Classes of one kind by name: ours, and those that other installed packages enrol through entry points."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from netprobe.errors import NetprobeError


class Enrolled(Mapping[str, type]):
    """The classes of one kind by the name that each has in specs and on the command line.

    noun : what one of them is called.
    base : the class that all of them extend.
    ours : those of netprobe, which carry their `name`.

    A class of another package is enrolled by an entry point of the group "netprobe.<noun>s" that is called as the
    class is, in that package's pyproject.toml:

        [project.entry-points."netprobe.metrics"]
        energy = "my_package.energy:Energy"

    Installed packages are asked for such entries when a name is none of ours, and when all names are listed; a class is
    imported when it is asked for by its name. One that cannot be used is a `NetprobeError` that names its package.
    """

    def __init__(self, noun: str, base: type, ours: Iterable[type]) -> None:
        self.noun, self.base = noun, base
        self.ours = {cls.name: cls for cls in ours}

    @property
    def group(self) -> str:
        """The group of entry points that enrols classes here."""
        return f"netprobe.{self.noun}s"

    @property
    def shadowed(self) -> list[str]:
        """What is wrong with plug-ins that no name can reach, because it is one of ours."""
        return [
            f"the {self.noun} {name!r} of {_packages(entries)} cannot be reached: netprobe has one of that name"
            for name, entries in self._entries().items()
            if name in self.ours
        ]

    def __getitem__(self, name: str) -> type:
        return self.ours[name] if name in self.ours else self._loaded(name, self._entries()[name])

    def __contains__(self, name: object) -> bool:
        return name in self.ours or name in self._entries()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.ours, *sorted(self._entries())]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _entries(self) -> dict[str, list[EntryPoint]]:
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            found.setdefault(entry.name, []).append(entry)
        return found

    def _loaded(self, name: str, entries: list[EntryPoint]) -> type:
        whose = f"the {self.noun} {name!r} of {_packages(entries)}"
        if len(entries) > 1:
            raise NetprobeError(f"{whose} is enrolled more than once: uninstall all of these packages but one")
        try:
            loaded = entries[0].load()
        except Exception as error:  # whatever a stranger's module raises when it is imported
            raise NetprobeError(
                f"{whose} cannot be imported from {entries[0].value!r} ({type(error).__name__}: {error}): "
                "update or uninstall that package"
            ) from error
        fault = self._fault(name, loaded)
        if fault:
            raise NetprobeError(f"{whose}, {entries[0].value!r}, {fault}: update or uninstall that package")
        return loaded

    def _fault(self, name: str, loaded: Any) -> str | None:
        """What keeps `loaded` from being one of these."""
        if not (isinstance(loaded, type) and issubclass(loaded, self.base)):
            return f"is no subclass of {qualified(self.base)}"
        if inspect.isabstract(loaded):
            return f"does not define {', '.join(sorted(loaded.__abstractmethods__))}"
        called = getattr(loaded, "name", None)
        return None if called == name else f"calls itself {called!r}, not {name!r} as its entry point does"


def qualified(cls: type) -> str:
    """Where a class is, in words: module and name."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _packages(entries: Iterable[EntryPoint]) -> str:
    return "the package " + " and ".join(f"{entry.dist.name} {entry.dist.version}" for entry in entries)
