"""The verb partial: results and report, the commands of cells, and mistakes."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner

from netprobe.cli import main
from netprobe.cli.partial import numbers
from netprobe.errors import NetprobeError
from netprobe.recipes import Recipe
from netprobe.store import open_results

SMALL = ["--model", "digits_cnn", "--data", "digits", "--limit", "128", "--test-limit", "20", "--preset", "quick"]
SMALL += ["--epochs", "1", "--adversarial", "pgd-at:eps=0.1,steps=1", "--test", "pgd:eps=0.1,steps=2", "--no-progress"]
GRID = ["--codes", "A1N2,N2A1_l", "--cutoffs", "conv3", "--seeds", "0"]


def run(*arguments: object, code: int = 0):
    result = CliRunner().invoke(main, ["partial", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_help_has_examples_codes_and_every_setting():
    output = " ".join(run("--help").split())
    assert "--cutoffs blocks --preset quick -o runs/digits" in output and "--print-cells > cells.txt" in output
    assert "A1N2, N1A2, A2N1, N2A1" in output and "N2A1_l" in output
    names = {parameter.name for parameter in main.commands["partial"].params}
    assert set(Recipe.__dataclass_fields__) - names == {"seed"}


def test_it_writes_results_figures_and_a_report(tmp_path):
    output = run(*SMALL, *GRID, "-o", tmp_path)
    assert "Adversarial accuracy, A1N2, mean over cutoffs" in output and str(tmp_path / "report.html") in output
    data = open_results(tmp_path / "results.nc")["digits_cnn/partial"]
    assert data["adversarial_accuracy"].sizes == {"code": 2, "cutoff": 1, "seed": 1}
    assert (data["converged"] >= 0).all() and data["layer"].values.tolist() == ["conv3"]
    figures = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    curves = {f"partial_curves-{name}" for name in ("adversarial_accuracy", "adversarial_loss", "clean_accuracy")}
    assert figures == curves | {"partial_layers", "partial_parameters"}
    page = (tmp_path / "report.html").read_text()
    assert "Partial adversarial training" in page and "Which layers of this network must be trained" in page


def test_commands_of_cells_do_the_work_of_the_whole(tmp_path):
    whole, apart = tmp_path / "whole", tmp_path / "in parts"
    run(*SMALL, *GRID, "-o", whole)
    lines = run(*SMALL, *GRID, "-o", apart, "--print-cells").splitlines()
    labels = [line.rpartition(" --cell ")[2] for line in lines]
    assert labels == ["natural-seed0", "adversarial-seed0", "A1N2-04-seed0", "N2A1_l-04-seed0"]
    for line in (lines[2], lines[0], lines[1], lines[3]):  # in any order
        program, verb, *arguments = shlex.split(line)
        assert (program, verb) == ("netprobe", "partial")
        run(*arguments)
        assert not (apart / "results.nc").exists()
    assert len(list(apart.glob("cells/*.json"))) == 4
    run(*SMALL, *GRID, "-o", apart)
    assert (apart / "results.nc").read_bytes() == (whole / "results.nc").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--codes", "A1N3"], "unknown code 'A1N3'"),
        (["--cutoffs", "conv9"], "unknown cutoff 'conv9'"),
        (["--seeds", "a"], "cannot read the seeds"),
        (["--cell", "A1N2-05-seed0"], "unknown cell 'A1N2-05-seed0'"),
        (["--adversarial", "pgd"], "unknown defense 'pgd'"),
        (["--model", "digits_cnn@weights.pt"], "a checkpoint has no effect"),
    ],
)
def test_mistakes_are_said_and_nothing_is_computed(tmp_path, arguments, said):
    output = run(*SMALL, *GRID, "-o", tmp_path / "out", *arguments, code=2)
    assert said in " ".join(output.split())
    assert not list(tmp_path.glob("out/*/*"))


def test_seeds():
    assert numbers("0,1,2") == numbers("0-2") == [0, 1, 2] and numbers("4, 7-8") == [4, 7, 8]
    with pytest.raises(NetprobeError, match="write 0,1,2 or 0-4"):
        numbers("-1")
