"""`netprobe weights`, and what `netprobe compare` takes over from it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from test_cli import SMALL, run

from netprobe.cli import main
from netprobe.cli.weights import HEADS
from netprobe.settings import WeightsSettings
from netprobe.store import open_results, provenance

NET = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2), nn.BatchNorm2d(6),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10),
    )

def plain():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
"""
FAST = ["--no-progress"]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.py"
    path.write_text(NET)
    return f"{path}:make"


@pytest.fixture
def undrawn(monkeypatch):
    """No figures and no report, which take longer than the rest."""
    monkeypatch.setattr("netprobe.reporting.outcome.draw", lambda tree, folder: folder)


def test_help_has_examples_and_every_setting():
    output = run("weights", "--help")
    assert "netprobe weights nt=resnet18@nt.pt" in output and "Needs no images" in output
    options = {parameter.name: parameter for parameter in main.commands["weights"].params}
    for name, field in WeightsSettings.__dataclass_fields__.items():
        assert options[name].help == field.metadata["help"] and options[name].default == field.default
    assert "-k" in options["leading"].opts


def test_help_of_weights_needs_no_torch():
    command = "import sys\nfrom netprobe.cli import main\ntry: main(['weights', '--help'])\nexcept SystemExit: pass\n"
    command += "assert 'torch' not in sys.modules and 'xarray' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True, capture_output=True)


def test_it_prints_a_table_and_writes_everything(net, tmp_path):
    output = run("weights", f"a={net}", f"b={net}", "--input", "1,8,8", "-o", tmp_path, *FAST)
    assert all(head in output for head in HEADS) and str(tmp_path / "report.html") in output
    tree = open_results(tmp_path / "results.nc")
    assert set(tree["a"].children) == {"singular_values", "filters", "batch_norm"}
    (row,) = [line for line in output.split("\nb\n")[0].splitlines() if line.split()[:1] == ["3"]]
    norm = float(tree["a/singular_values"]["operator_norm"].sel(layer="3"))
    assert f"{norm:.4g}" in row and f"{float(tree['a/filters']['hoyer'].sel(layer='3')):.3f}" in row
    assert {p.stem for p in (tmp_path / "figures").glob("*.svg")} >= {
        "singular_values", "operator_norm", "tail_fatness", "effective_rank", "filter_hoyer",
        "batch_norm-running_mean", "batch_norm-running_variance", "batch_norm-gamma", "batch_norm-beta",
    }  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    assert "What the weights of these networks tell" in page and "Pre-flight findings" not in page
    (tmp_path / "report.html").unlink()
    run("report", tmp_path / "results.nc")
    assert (tmp_path / "report.html").read_text() == page


def test_with_data_it_shows_the_drift(net, tmp_path):
    noise = ["--data", "digits", "--limit", "24", "--perturb", "noise=gaussian:std=0.1"]
    run("weights", f"a={net}", *noise, "-o", tmp_path, *FAST, "--batch-size", "7")
    tree = open_results(tmp_path / "results.nc")
    assert tree["a/batch_norm_drift"].condition.values.tolist() == ["clean", "noise"]
    assert provenance(tree)["weights"]["input_shape"] == [1, 8, 8]
    stems = {p.stem for p in (tmp_path / "figures").glob("*.svg")}
    assert {"batch_norm_drift-clean", "batch_norm_drift-noise"} <= stems


def test_settings_reach_the_results(net, undrawn, tmp_path):
    flags = ["--layers", "conv", "--method", "circular", "--padding", "circular", "-k", "3"]
    run("weights", f"a={net}", "--input", "1,8,8", *flags, "-o", tmp_path, *FAST)
    found = open_results(tmp_path / "results.nc")["a/singular_values"]
    assert found.layer.values.tolist() == ["0", "3"] and found.sizes["rank"] == 3
    assert set(found["method"].values) == {"circular"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --input"),
        (["--input", "1x8x8"], "write the shape of one input"),
        (["--input", "1,8,8", "--layers", "conv9"], "did you mean 'conv"),
        (["--input", "1,8,8", "--method", "exakt"], "did you mean 'exact'"),
        (["--input", "1,8,8", "--perturb", "pgd:eps=0.1"], "perturbations need images"),
        (["--input", "1,8,8", "--memory", "lots"], "cannot read the size"),
        (["--input", "3,8,8"], "does not run on an input"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(arguments, said, tmp_path):
    output = run("weights", "digits_cnn", *arguments, "-o", tmp_path, code=2)
    assert said in " ".join(output.split()) and "Traceback" not in output
    assert not list(tmp_path.iterdir())


def test_compare_takes_the_weights_in_by_default(net, tmp_path):
    few = [*SMALL, "--metrics", "psr", "--sites", "conv", "--gradcam", 0]
    output = run("compare", f"a={net}", f"b={net}", *few, "-o", tmp_path)
    assert "Squared Hoyer ratio of the filters" in output and "Shift of the batch-norm means" in output
    tree = open_results(tmp_path / "results.nc")
    groups = {"accuracy", "psr", "singular_values", "filters", "batch_norm", "batch_norm_drift"}
    assert set(tree["a"].children) == groups
    page = (tmp_path / "report.html").read_text()
    sections = re.findall(r'<section id="(\w+)"', page)
    assert set(sections) >= {"singular_values", "filters", "batch_norm", "batch_norm_drift"}
    assert "What perturbations do inside these networks" in page and len(page) < 5_000_000


def test_compare_can_leave_the_weights_out(net, undrawn, tmp_path):
    few = [*SMALL, "--metrics", "psr", "--sites", "conv", "--gradcam", 0, "--no-weights"]
    run("compare", f"a={net}", f"b={net}", *few, "-o", tmp_path)
    assert set(open_results(tmp_path / "results.nc")["a"].children) == {"accuracy", "psr"}


def test_compare_of_networks_of_which_one_has_no_batch_norm(net, undrawn, tmp_path):
    """The drift is left out for both, because one pass serves both; the rest is there."""
    few = [*SMALL, "--metrics", "psr", "--sites", "conv", "--gradcam", 0]
    run("compare", f"a={net}", f"b={net.replace(':make', ':plain')}", *few, "-o", tmp_path)
    tree = open_results(tmp_path / "results.nc")
    assert set(tree["a"].children) == {"accuracy", "psr", "singular_values", "filters", "batch_norm"}
    assert set(tree["b"].children) == {"accuracy", "psr", "singular_values", "filters"}
    assert "batch_norm_drift" in provenance(tree)["weights"]["left_out"]["a"]
