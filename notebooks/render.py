"""Run notebooks top to bottom, each in a process of its own, and write them as Markdown with their outputs and figures.

    python notebooks/render.py                                   all of them, into notebooks/rendered/
    python notebooks/render.py notebooks/04_weights.ipynb -o out/

It needs neither Jupyter nor a kernel: cells are executed as a notebook does it, the value of the last line of a cell is
shown, first through `_repr_html_`, which must work, and written as text. An error names the notebook and the cell.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LONGEST = 2500
"""Characters of one output that are written."""


def main() -> None:
    """Render the notebooks that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, default=sorted(HERE.glob("*.ipynb")))
    parser.add_argument("-o", "--out", type=Path, default=HERE / "rendered")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this process
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    for notebook in asked.notebooks:
        if asked.here:
            Run(notebook.resolve(), asked.out.resolve()).render()
        else:
            _in_a_process_of_its_own(notebook, asked.out)


def _in_a_process_of_its_own(notebook: Path, out: Path) -> None:
    began, used = time.monotonic(), _cpu_seconds()
    command = [sys.executable, __file__, str(notebook), "-o", str(out), "--here"]
    subprocess.run(command, check=True, env=os.environ | {"MPLBACKEND": "Agg"})
    took, used = time.monotonic() - began, _cpu_seconds() - used
    print(f"{notebook.name}: {took:.0f} s, {used:.0f} s of CPU time", flush=True)


def _cpu_seconds() -> float:
    """Of all processes that this one has started and that have ended."""
    return os.times().children_user + os.times().children_system


def cells(notebook: Path) -> list[tuple[str, str]]:
    """The kind, "markdown" or "code", and the source of every cell."""
    read = json.loads(notebook.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in read["cells"]]


class Run:
    """One run of a notebook, in its folder, and what it shows as Markdown."""

    def __init__(self, notebook: Path, out: Path) -> None:
        self.notebook, self.out = notebook, out
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.figures = 0

    def render(self) -> None:
        """Execute every cell and write the page; a cell that fails ends the process with 1, after its traceback."""
        os.chdir(self.notebook.parent)
        sys.path.insert(0, "")
        page = [f"<!-- made by notebooks/render.py from {self.notebook.name} -->"]
        for number, (kind, source) in enumerate(cells(self.notebook)):
            page.append(source if kind == "markdown" else self._code(number, source))
        (self.out / f"{self.notebook.stem}.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")

    def _code(self, number: int, source: str) -> str:
        printed, progress = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(progress):
                shown = self._value(source, f"{self.notebook.name}, cell {number}")
        except Exception:
            print(printed.getvalue(), progress.getvalue(), traceback.format_exc(), file=sys.stderr)
            sys.exit(f"{self.notebook.name}: cell {number} failed:\n{source}")
        text = printed.getvalue() + shown
        cut = text if len(text) <= LONGEST else text[:LONGEST] + "\n..."
        output = [f"```text\n{cut.rstrip()}\n```"] if cut.strip() else []
        return "\n\n".join([f"```python\n{source}\n```", *output, *self._drawn()])

    def _value(self, source: str, where: str) -> str:
        """Execute a cell; the text of the value of its last line, unless that is an assignment or ends in ";"."""
        tree = ast.parse(source, where)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, where, "exec"), self.names)
        if last is None:
            return ""
        value = eval(compile(ast.Expression(last.value), where, "eval"), self.names)
        if value is None or source.rstrip().endswith(";"):
            return ""
        if hasattr(value, "_repr_html_"):
            value._repr_html_()
        return str(value)

    def _drawn(self) -> list[str]:
        """Figures that are open, saved and closed, as a notebook shows them below their cell."""
        if "matplotlib" not in sys.modules:
            return []
        import matplotlib.pyplot as plt

        found = []
        for figure in map(plt.figure, plt.get_fignums()):
            self.figures += 1
            name = f"{self.notebook.stem}_{self.figures}.png"
            figure.savefig(self.out / name, dpi=70, bbox_inches="tight", metadata={"Software": None})
            found.append(f"![]({name})")
        plt.close("all")
        return found


if __name__ == "__main__":
    main()
