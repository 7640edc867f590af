"""`netprobe train`: flags, what it writes, and what it refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from test_cli import run

import netprobe as npb
from netprobe.cli import main
from netprobe.recipes import Recipe
from netprobe.reporting.verdict import verdict
from netprobe.store import open_results, provenance

SMALL = ["--data", "digits", "--limit", "200", "--model", "digits_cnn", "--preset", "quick", "--epochs", "2"]


def test_help_has_examples_and_every_setting_of_a_recipe():
    output = run("train", "--help")
    assert "torchrun --nproc-per-node=4 -m netprobe train" in output
    options = {parameter.name: parameter for parameter in main.commands["train"].params}
    for field in dataclasses.fields(Recipe):
        assert options[field.name].help == field.metadata["help"]
        assert options[field.name].default is None  # the preset decides


def test_help_needs_no_torch():
    command = "import sys\nfrom netprobe.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
    subprocess.run([sys.executable, "-c", command + "assert 'torch' not in sys.modules"], check=True)


def test_defenses_are_listed_with_their_settings():
    output = run("defenses")
    assert "trades: L = CE(f(x), y)" in output
    assert "beta=6.0" in output


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "fast"
    return folder, run("train", "fast:eps=0.1", *SMALL, "--validation", "0.2", "-o", folder)


def test_it_says_how_it_went_and_writes_everything(trained):
    folder, output = trained
    assert "validation_robust_accuracy" in output
    names = {"best.pt", "last.pt", "history.jsonl", "results.nc", "report.html"}
    assert names <= {path.name for path in folder.iterdir()}
    assert {path.name for path in (folder / "figures").iterdir()} == {"learning_curves.svg", "training_loss.svg"}
    page = (folder / "report.html").read_text()
    assert "How training went" in page
    assert "carry no provenance" not in page
    assert provenance(open_results(folder / "results.nc"))["recipe"]["epochs"] == 2


def test_the_verdict_is_that_of_the_best_epoch(trained):
    folder, _ = trained
    results = open_results(folder / "results.nc")
    history = results["fast/history"].to_dataset()
    best = history.sel(epoch=history.attrs["best_epoch"])
    rows = {row.quantity: row for row in verdict(results).rows}
    clean = rows["Validation accuracy, clean, best epoch"].estimates["fast"]
    assert clean.value == pytest.approx(100 * float(best["validation_accuracy"]))
    assert clean.low < clean.value <= clean.high
    assert "Validation accuracy under the defense's attack, best epoch" in rows


def test_what_was_trained_is_probed_by_its_path_and_called_after_its_folder(trained, tmp_path):
    folder, _ = trained
    perturb = ["--perturb", "gaussian:std=0.1", "--limit", "20", "--metrics", "psr", "--no-preflight"]
    run("probe", folder / "best.pt", "--data", "digits", *perturb, "--no-progress", "-o", tmp_path)
    assert "fast" in open_results(tmp_path / "results.nc").children


def test_the_same_command_trains_no_further(trained):
    folder, _ = trained
    before = (folder / "last.pt").read_bytes()
    run("train", "fast:eps=0.1", *SMALL, "--validation", "0.2", "-o", folder)
    assert (folder / "last.pt").read_bytes() == before


def test_a_network_can_start_from_a_checkpoint_and_with_a_normalisation(trained, tmp_path):
    folder, _ = trained
    settings = [*SMALL[:4], "--preset", "quick", "--epochs", "1", "--lr", "1e-9"]
    model = f"digits_cnn@{folder / 'best.pt'}"
    run("train", "natural", *settings, "--model", model, "-o", tmp_path / "again")
    ours, theirs = npb.load(tmp_path / "again" / "last.pt"), npb.load(folder / "best.pt")
    assert (ours.conv1.weight - theirs.conv1.weight).abs().max() < 1e-6
    run("train", "natural", *SMALL, "--normalize", "0.3:0.2", "-o", tmp_path / "normalised")
    assert npb.load(tmp_path / "normalised" / "best.pt").normalize.mean.item() == pytest.approx(0.3)


def test_it_trains_on_the_gpu_that_there_is(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("netprobe.devices.preferred_device", lambda: "cuda:1")
    monkeypatch.setattr("netprobe.training.fit", lambda *_, device, **__: asked.append(device) or exit(7))
    run("train", "natural", *SMALL, "-o", tmp_path, code=7)
    run("train", "natural", *SMALL, "--device", "cpu", "-o", tmp_path, code=7)
    assert asked == ["cuda:1", "cpu"]


def test_regularisers_join_are_listed_and_shown(tmp_path):
    assert "wrt=input, projections=3" in run("regularisers")
    output = run(
        "train", "natural", *SMALL, "--regularise", "l2", "--regularise", "jacobian:site=output", "-o", tmp_path
    )
    assert "L2()" in output and "Jacobian(" in output
    history = open_results(tmp_path / "results.nc")[f"{tmp_path.name}/history"]
    assert {"l2", "jacobian", "unregularised_loss"} <= set(history.data_vars)
    assert (tmp_path / "figures" / "training_terms.svg").exists()
    assert npb.load(tmp_path / "best.pt")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["pgd_at", *SMALL], "did you mean 'pgd-at'"),
        (["natural", *SMALL, "--schedule", "cosin"], "did you mean 'cosine'"),
        (["natural", *SMALL, "--milestones", "5,x"], "must be a whole number"),
        (["natural", "--data", "digits"], "Missing option '--model'"),
        (["natural", *SMALL, "--regularise", "jacobian:site=conv9"], "unknown site pattern 'conv9'"),
        (["natural", *SMALL, "--regularise", "jacobi"], "did you mean 'jacobian'"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path):
    assert message in run("train", *arguments, "-o", tmp_path, code=2)
