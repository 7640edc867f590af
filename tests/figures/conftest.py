"""Running the scripts of figures and tables."""

import runpy
import sys
from pathlib import Path

import pytest

FIGURES = Path(__file__).parents[2] / "figures"


@pytest.fixture
def printed(monkeypatch, capsys):
    """What a script prints, given arguments."""

    def run(script, *arguments) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        monkeypatch.syspath_prepend(FIGURES)
        try:
            runpy.run_path(str(FIGURES / script), run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise
        return capsys.readouterr().out

    return run
