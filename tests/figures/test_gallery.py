"""Studies keep their results; figures say where they came from; the page shows them, and what was skipped."""

import json
import runpy
import sys
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import netprobe as npb
from netprobe.errors import MissingData
from netprobe.gallery import Figure, Study, Table, index, make_all, result, write_index
from netprobe.gallery.index import BEGIN, END
from netprobe.plots.drawing import canvas
from netprobe.store import model_card


class Tiny(Study):
    """Counts how often it computes."""

    name = "tiny"
    scales: ClassVar = {"smoke": {"slope": 2}, "paper": {"slope": 3}}
    computed = 0

    @result
    def line(self, word: str) -> xr.Dataset:
        type(self).computed += 1
        return xr.Dataset({"y": ("x", self.settings["slope"] * np.arange(3.0))}, attrs={"provenance": '{"seed": 7}'})

    @result
    def weights(self) -> xr.Dataset:
        digits = npb.data.load("digits", limit=20)
        network = self.train("one", "natural", "mlp", digits, "quick", epochs=1, validation=0.0)
        return xr.Dataset({"first": next(network.parameters())[0, 0].item()})

    @result
    def gone(self) -> xr.Dataset:
        raise MissingData("no such data: fetch them")


class Small(Tiny):
    """Another study, of one scale."""

    name = "small"
    scales: ClassVar = {"smoke": {"slope": 2}}


def draw(study):
    ax = canvas(None)
    ax.plot(study.line("a")["y"])
    return ax


DOC = """Fig. 9.9 of Nobody (2022): a line
through two points.

More about it.
"""


def test_results_are_computed_once_and_kept(tmp_path):
    study, before = Tiny("smoke", tmp_path, run=True), Tiny.computed
    assert study.line("a").identical(study.line("a"))
    again = Tiny("smoke", tmp_path, run=True).line("a")
    assert Tiny.computed == before + 1 and again["y"].values.tolist() == [0, 2, 4]
    assert (tmp_path / "tiny-smoke" / "line-a.nc").exists() and Tiny.found(tmp_path) == ["smoke"]


def test_without_run_what_is_missing_is_told_with_the_remedy(tmp_path):
    with pytest.raises(MissingData, match=r"make them with --run --scale smoke"):
        Tiny("smoke", tmp_path).line("a")
    with pytest.raises(npb.NetprobeError, match="did you mean 'smoke'"):
        Tiny("smok", tmp_path)


def test_a_folder_of_other_settings_is_an_error(tmp_path, monkeypatch):
    Tiny("smoke", tmp_path, run=True).line("a")
    monkeypatch.setattr(Tiny, "scales", {"smoke": {"slope": 5}})
    with pytest.raises(npb.NetprobeError, match="results of other settings"):
        Tiny("smoke", tmp_path, run=True).line("a")
    assert Tiny("smoke", tmp_path).line("a")["y"].values.tolist() == [0, 2, 4]  # what is there is shown


def test_files_say_where_they_came_from(tmp_path):
    shown = Figure("folder/diss_fig_9_9.py", DOC, Tiny, draw)
    pdf, png = shown.make(Tiny("smoke", tmp_path, run=True), tmp_path)
    assert (shown.name, shown.title) == ("diss_fig_9_9", "Fig. 9.9 of Nobody (2022)")
    assert shown.caption == "a line through two points"
    with Image.open(png) as picture:
        about = json.loads(picture.text["Description"])
        assert picture.text["Title"].startswith("Fig. 9.9")
    assert about["results"]["line-a"]["provenance"] == {"seed": 7}
    assert about["results"]["line-a"]["study"]["settings"] == {"slope": 2}
    assert len(about["results"]["line-a"]["sha256"]) == 64
    assert b"/Keywords" in pdf.read_bytes() and b"slope" in pdf.read_bytes()
    assert pdf.read_bytes() == shown.make(Tiny("smoke", tmp_path), tmp_path)[0].read_bytes()


def test_results_say_of_which_trainings_they_are(tmp_path):
    study = Tiny("smoke", tmp_path, run=True, progress=False)
    study.weights()
    study.line("a")
    used = {name: each["study"]["trainings"] for name, each in study.used.items()}
    trained = npb.load(tmp_path / "tiny-smoke" / "training" / "one" / "best.pt")
    assert (
        used["weights"]["one"]["sha256"] == model_card(trained)["sha256"] and len(used["weights"]["one"]["key"]) == 64
    )
    assert used["line-a"] == {}


def test_networks_are_trained_on_a_gpu_if_there_is_one(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("netprobe.gallery.study.preferred_device", lambda: "the GPU")
    monkeypatch.setattr("netprobe.gallery.study.fit", lambda *_, device, **__: asked.append(device) or 1 / 0)
    study = Tiny("smoke", tmp_path, run=True)
    for settings in ({}, {"device": "cpu"}):
        with pytest.raises(ZeroDivisionError):
            study.train("natural", "natural", "digits_cnn", None, **settings)
    assert asked == ["the GPU", "cpu"]


def test_files_of_one_figure_are_told_apart_without_spaces(tmp_path):
    shown = Figure("fig_9.py", DOC, Tiny, lambda study: {"under noise": draw(study)})
    assert [path.name for path in shown.make(Tiny("smoke", tmp_path, run=True), tmp_path)] == [
        "fig_9-under-noise.pdf",
        "fig_9-under-noise.png",
    ]


def test_a_table_is_text_with_where_it_came_from(tmp_path):
    shown = Table("diss_tab_9_9.py", DOC, Tiny, lambda study: [f"| a | {float(study.line('a')['y'][1])} |"])
    (path,) = shown.make(Tiny("smoke", tmp_path, run=True), tmp_path)
    assert "| a | 2.0 |" in path.read_text() and '"slope": 2' in path.read_text()


SCRIPT = '''"""Fig. {number} of Nobody (2022): something."""
from gallery_tiny import Tiny, draw
from netprobe.cli.figures import run_script
from netprobe.gallery import Figure

FIGURE = Figure(__file__, __doc__, Tiny, {draw})
if __name__ == "__main__":
    run_script(FIGURE)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three scripts, one of which lacks its data, and a module that declares nothing."""
    (tmp_path / "scripts").mkdir()
    drawn = {"fig_2": "draw", "fig_10": "draw", "fig_11": "lambda study: study.gone()"}
    for name, how in drawn.items():
        (tmp_path / "scripts" / f"{name}.py").write_text(SCRIPT.format(number=name[4:], draw=how))
    (tmp_path / "scripts" / "helper.py").write_text("")
    monkeypatch.setitem(sys.modules, "gallery_tiny", sys.modules[__name__])
    return tmp_path / "scripts"


def test_all_of_a_folder_with_a_page(folder, tmp_path):
    before = Tiny.computed
    made = make_all(folder, "smoke", tmp_path / "out", progress=False)
    assert [each.shown.name for each in made] == ["fig_2", "fig_10", "fig_11"] and Tiny.computed == before + 1
    assert [each.skipped for each in made] == ["", "", "no such data: fetch them"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "fetch them" in page and "http" not in page
    assert len(make_all(folder, "smoke", tmp_path / "out", only="*_1?", progress=False)) == 2
    with pytest.raises(npb.NetprobeError, match="unknown scripts 'fgi_2'"):
        make_all(folder, "smoke", tmp_path / "out", only="fgi_2")


def test_the_index_remembers_the_largest_scale_and_what_each_took(folder, tmp_path):
    (folder / "README.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_index(folder)
    assert "| not yet |  |" in (folder / "README.md").read_text()
    pictures = []
    for scale in ("paper", "smoke", "paper"):  # the second does not take the first's place, the third took no time
        make_all(folder, scale, tmp_path / scale, progress=False)
        text = write_index(folder, tmp_path / scale).read_text()
        pictures.append((folder / "thumbnails" / "fig_2.png").read_bytes())
    known = json.loads((folder / "thumbnails" / "made.json").read_text())
    assert list(known) == ["fig_10", "fig_2"] and known["fig_2"]["drawn"] == "paper"
    assert set(known["fig_2"]["seconds"]) == {"smoke", "paper"} and known["fig_2"]["seconds"]["paper"] is not None
    assert len(set(pictures)) == 1 and len(pictures[0]) < 10_000
    row = next(line for line in text.splitlines() if "fig_2.py" in line)
    assert "`python figures/fig_2.py --run`" in row and "| smoke, paper | ![Fig. 2 of Nobody (2022)]" in row
    assert text.startswith("before\n") and text.endswith(f"{index(folder)}\n{END}\nafter\n")
    with pytest.raises(MissingData, match="make figures first"):
        write_index(folder, tmp_path / "nowhere")


def test_scripts_whose_study_has_no_such_scale_are_skipped(folder, tmp_path):
    (folder / "fig_3.py").write_text(SCRIPT.format(number=3, draw="draw").replace("Tiny", "Small"))
    made = {each.shown.name: each.skipped for each in make_all(folder, "paper", tmp_path / "out", progress=False)}
    assert made["fig_3"] == "the study small has no scale paper" and not made["fig_2"]
    with pytest.raises(npb.NetprobeError, match="did you mean 'paper'"):
        make_all(folder, "papre", tmp_path / "out", progress=False)


def test_the_command_of_a_script(folder, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["fig_2.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(folder / "fig_2.py"), run_name="__main__")
        return end.value.code, "".join(capsys.readouterr())

    code, said = run("--results", tmp_path / "there", "-o", tmp_path)
    assert code == 2 and "make them with --run --scale smoke" in said
    assert run("--run", "--scale", "paper", "--results", tmp_path / "there", "-o", tmp_path)[0] == 0
    assert run("--results", tmp_path / "there", "-o", tmp_path)[0] == 0
    with Image.open(tmp_path / "fig_2.png") as picture:
        assert json.loads(picture.text["Description"])["scale"] == "paper"
