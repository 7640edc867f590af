"""The scripts of tables 4.2 to 4.5 evaluate networks and print them beside the publication."""

import importlib
from pathlib import Path

import pytest
import xarray as xr

import netprobe as npb
from netprobe import data
from netprobe.training import fit

FRONT = "sparse-coding:patch=4,stride=2,atoms=20,top=3,steps=2"
RUN = ("--data", "digits", "--limit", "20", "--batch-size", "10", "--steps", "2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders of tiny networks, hardly trained."""
    folder = tmp_path_factory.mktemp("trained")
    digits = data.load("digits", "train", limit=40)
    specs = {"fixed": FRONT, "random": f"{FRONT},dropout=0.3", "twin": f"{FRONT},dropout=0.3,training=unsupervised"}
    for name, spec in {**specs, "plain": "natural"}.items():
        settings = {"epochs": 2, "schedule": "constant", "validation": 0.0, "out": folder / name}
        fit(spec, "digits_cnn", digits, "quick", progress=False, **settings)
    return folder


def accuracy(folder, name, condition) -> str:
    evaluation = npb.open_results(folder / f"{name}.nc")[f"{name}/evaluation"].sel(condition=condition)
    low, high = 100 * evaluation["accuracy_interval"].values
    return f"{100 * float(evaluation['accuracy']):.1f} [{low:.1f}, {high:.1f}]"


def test_table_4_5(trained, printed, tmp_path):
    models = (f"sparse={trained / 'fixed' / 'best.pt'}", f"mine={trained / 'plain' / 'best.pt'}")
    text = printed("diss_tab_4_5_sparse_coding.py", *models, *RUN, "--restarts", 2, "-o", tmp_path)
    cells = [accuracy(tmp_path, "sparse", each) for each in ("clean", "linf-ce", "linf-cw", "l2", "l1")]
    paper = ("85.45", "37.33", "37.35", "60.47", "47.13")
    assert "| sparse | " + " | ".join(f"{c} (paper {p})" for c, p in zip(cells, paper, strict=True)) + " |" in text
    assert f"| mine | {accuracy(tmp_path, 'mine', 'clean')} | " in text
    assert "backward passes: smooth-topu" in text and "norm=l1" in text and "digits, 20 images" in text


def test_tables_4_2_and_4_3(trained, printed, tmp_path):
    twin, plain = (trained / name / "best.pt" for name in ("twin", "plain"))
    models = (f"sparse={trained / 'random' / 'best.pt'}", f"AT={plain}")
    sources = ("--twin", twin, "--surrogate", plain)
    text = printed("diss_tab_4_2_stochastic.py", *models, *sources, *RUN, "--eot", 2, "-o", tmp_path)
    cells = [accuracy(tmp_path, "sparse", each) for each in ("clean", "white-box", "pw-t", "black-box")]
    paper = ("80.1", "61.3", "39.5", "57.8")
    assert "| sparse | " + " | ".join(f"{c} (paper {p})" for c, p in zip(cells, paper, strict=True)) + " | " in text
    correct = npb.open_results(tmp_path / "sparse.nc")["sparse/evaluation/correct"]
    worst = 100 * float((correct == 1).all("condition").mean())
    assert f"| {worst:.1f} [" in text and "(paper 39.5) |\n" in text
    white, standing = (accuracy(tmp_path, "AT", each) for each in ("white-box", "white-box"))
    assert f"| {white} |  |  | {standing} (paper 42.1) |" in text


def test_what_counts_in_table_4_4_stands_every_attack_of_its_eps(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "figures")
    conditions = ["clean", "white-box@0.1", "pw-t@0.1", "white-box@0.2", "pw-t@0.2"]
    rows = [[1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 1, 0], [1, 0, 0, 1], [-1, 1, 0, 0]]  # the last is not yet known
    correct = xr.DataArray(rows, {"condition": conditions}, ("condition", "image"))
    results = xr.DataTree.from_dict({"/sparse/evaluation": xr.Dataset({"correct": correct})})
    standing = importlib.import_module("published").standing
    found = standing(results, {"0.1": "*@0.1", "0.2": "*@0.2"})["sparse/evaluation"]["correct"]
    assert found["condition"].values.tolist() == ["clean", "0.1", "0.2"]
    assert found.values.tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [-1, 0, 0, 0]]


def test_a_spoiled_network_name_is_an_error_before_any_work(printed, tmp_path):
    with pytest.raises(npb.NetprobeError, match="no_such_net"):
        printed("diss_tab_4_5_sparse_coding.py", "no_such_net", "--data", "digits", "-o", tmp_path)
    assert not list(tmp_path.iterdir())
