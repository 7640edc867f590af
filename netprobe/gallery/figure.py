"""What a script of a figure or a table declares."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from netprobe.gallery.study import Study
from netprobe.plots import save
from netprobe.store import atomically

RESULTS = "results"
"""The folder of results beside the figures, if no other is named."""
SUFFIXES = (".pdf", ".png")


@dataclass(frozen=True)
class Shown(ABC):
    """A figure or a table of a publication.

    script : the file that declares it, which it is named by
    doc : what it shows, the script's docstring: "Fig. 3.13 of Bakiskan (2022): mean ... over depth.", then details
    study : which results it is of
    """

    kind: ClassVar[str]

    script: str
    doc: str
    study: type[Study]

    @property
    def name(self) -> str:
        return Path(self.script).stem

    @property
    def title(self) -> str:
        """Which one of which work."""
        return self._headline.partition(":")[0]

    @property
    def caption(self) -> str:
        return self._headline.partition(":")[2].strip().rstrip(".")

    @property
    def _headline(self) -> str:
        return " ".join(self.doc.split("\n\n")[0].split())

    @abstractmethod
    def make(self, study: Study, out: str | Path) -> list[Path]:
        """Write the files into the folder `out`, each with its provenance inside. Returns their paths."""

    def about(self, study: Study) -> str:
        """What the files say of themselves, as JSON: the script and the results, by what and how they were made."""
        said = {"figure": self.title, "script": self.name, "scale": study.scale, "results": study.used}
        return json.dumps(said, sort_keys=True)


@dataclass(frozen=True)
class Figure(Shown):
    """Drawn by `netprobe.plots` alone: `draw(study)` returns an Axes, or several by what sets their files apart.

    PDF and PNG of every one say in their metadata what they were made from.
    """

    kind: ClassVar[str] = "figure"

    draw: Callable[[Any], Axes | Mapping[str, Axes]]

    def make(self, study: Study, out: str | Path) -> list[Path]:
        drawn = self.draw(study)
        parts = drawn if isinstance(drawn, Mapping) else {"": drawn}
        Path(out).mkdir(parents=True, exist_ok=True)
        return [path for apart, ax in parts.items() for path in self._files(ax, apart, self.about(study), Path(out))]

    def _files(self, ax: Axes, apart: str, about: str, out: Path) -> list[Path]:
        stem = "-".join(filter(None, (self.name, *apart.split())))
        try:
            return [save(ax, out / f"{stem}{suffix}", title=self._headline, about=about) for suffix in SUFFIXES]
        finally:
            plt.close(ax.figure)


@dataclass(frozen=True)
class Table(Shown):
    """`rows(study)` returns lines of Markdown: the head, a line for each network, and what else is to be said."""

    kind: ClassVar[str] = "table"

    rows: Callable[[Any], Sequence[str]]

    def make(self, study: Study, out: str | Path) -> list[Path]:
        lines = [f"**{self.title}**: {self.caption}", "", *self.rows(study)]
        text = "\n".join([*lines, "", f"<!-- {self.about(study).replace('--', '- -')} -->", ""])
        return [atomically(Path(out) / f"{self.name}.md", lambda part: part.write_text(text))]


def shown_text(path: Path) -> str:
    """A table as it is to be read, without what its file says of itself."""
    return path.read_text().partition("\n<!-- ")[0].rstrip()
