"""The verb evaluate: flags, sweeps, files, and what happens when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner

from netprobe.cli import main
from netprobe.cli.sweeps import all_perturbations, severities, swept
from netprobe.errors import NetprobeError
from netprobe.perturb import PGD, GaussianNoise
from netprobe.settings import EvaluateSettings
from netprobe.store import open_results

SMALL = ["--data", "digits", "--limit", "24", "--no-preflight", "--no-progress", "--probe-images", "8"]
MODELS = ["a=digits_cnn", "b=mlp,num_classes=10"]


def run(*arguments: object, code: int = 0) -> str:
    torch.manual_seed(0)  # of models without a checkpoint
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_help_has_examples_and_every_setting():
    output = " ".join(run("evaluate", "--help").split())
    assert '--sweep "pgd:steps=20 eps=0,2/255,4/255,8/255" -o out/' in output
    options = {parameter.name: parameter for parameter in main.commands["evaluate"].params}
    for name, field in EvaluateSettings.__dataclass_fields__.items():
        assert options[name].help == field.metadata["help"] and options[name].default == field.default


def test_sweeps_are_read():
    found = swept(
        ["pgd:steps=5 eps=0,2/255", "gaussian std=0.1,0.2", "cw=pgd:loss=cw eps=0.1", "pgd:eps=0.1 steps=1,2"]
    )
    assert found == {
        "pgd@0": PGD(0.0, steps=5),
        "pgd@2/255": PGD(2 / 255, steps=5),
        "gaussian@0.1": GaussianNoise(0.1),
        "gaussian@0.2": GaussianNoise(0.2),
        "cw@0.1": PGD(0.1, loss="cw"),
        "pgd@steps=1": PGD(0.1, steps=1),
        "pgd@steps=2": PGD(0.1, steps=2),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pgd:eps=0.1", "cannot read the sweep"),
        ("pgd eps", "cannot read the sweep"),
        ("pgt eps=1", "did you mean 'pgd'"),
        ("pgd:eps=0.1 stepz=1,2", "did you mean 'steps'"),
        ("pgd:eps=0.1 eps=0.1,0.2", "eps is given twice"),
        ("pgd eps=0.1,0.1", "occur twice"),
    ],
)
def test_mistakes_in_sweeps(text, said):
    with pytest.raises(NetprobeError, match=said):
        swept([text])


def test_names_must_not_collide():
    with pytest.raises(NetprobeError, match=r"two perturbations are called 'pgd@0\.1'"):
        swept(["pgd eps=0.1", "pgd:steps=3 eps=0.1"])


def test_corruptions_and_defaults():
    assert severities("1-3,5") == [1, 2, 3, 5] and severities(None) == []
    with pytest.raises(NetprobeError, match="cannot read the severities"):
        severities("all")
    colour, grey = (all_perturbations((), (), "1-2", (channels, 8, 8)) for channels in (3, 1))
    assert len(colour) == 19 * 2 and len(grey) == 18 * 2 and "saturate@1" not in grey
    assert list(all_perturbations((), (), None, (3, 8, 8))) == ["pgd", "gaussian"]
    assert list(all_perturbations(("fgsm:eps=0.1",), ("pgd eps=0.1",), None, (3, 8, 8))) == ["fgsm", "pgd@0.1"]


def test_it_writes_results_report_and_time(tmp_path):
    sweep = ["--sweep", "pgd:steps=3 eps=0,0.1"]
    output = run("evaluate", *MODELS, *SMALL, "--perturb", "fgsm:eps=0.1", *sweep, "-o", tmp_path)
    assert output.strip().startswith("a: ") and str(tmp_path / "report.html") in output
    tree = open_results(tmp_path / "results.nc")
    assert tree["a/evaluation/condition"].values.tolist() == ["clean", "fgsm", "pgd@0", "pgd@0.1"]
    assert "timing" not in tree.children and "doubts" in tree.children
    lines = (tmp_path / "timing.csv").read_text().splitlines()
    assert lines[0] == "model,condition,seconds" and len(lines) == 1 + 2 * 4
    assert {p.stem for p in (tmp_path / "figures").glob("*.svg")} == {"accuracy", "robustness_curve-pgd"}
    page, results = ((tmp_path / name).read_bytes() for name in ("report.html", "results.nc"))
    run("evaluate", *MODELS, *SMALL, "--perturb", "fgsm:eps=0.1", *sweep, "-o", tmp_path)
    assert (tmp_path / "results.nc").read_bytes() == results  # from what was kept
    (tmp_path / "report.html").unlink()
    run("report", tmp_path / "results.nc")
    assert (tmp_path / "report.html").read_bytes() == page


def test_a_preset_is_more_perturbations(tmp_path):
    asked = ["--preset", "black-box:parts=noise:transfer,points=2", "--surrogate", "twin=mlp,num_classes=10"]
    run("evaluate", "a=digits_cnn", *SMALL, "--no-doubts", *asked, "--perturb", "fgsm:eps=0.1", "-o", tmp_path)
    shown = open_results(tmp_path / "results.nc")["a/evaluation/condition"].values.tolist()
    noise = ["gaussian@0.5", "uniform@0.5", "salt-and-pepper@0.3"]
    assert shown == ["clean", "fgsm", *noise, "fgsm from twin@0.5"]
    assert "give --transfer MODEL" in run("evaluate", "a=digits_cnn", *SMALL, "--surrogate", "b=digits_cnn", code=2)
    assert "points=10" in run("presets")


def test_the_loss_around_images_on_demand(tmp_path):
    run(
        "evaluate", "a=digits_cnn", *SMALL, "--no-doubts", "--perturb", "fgsm:eps=0.1", "--landscape", 2, "-o", tmp_path
    )
    assert open_results(tmp_path / "results.nc")["a/landscape/loss"].sizes == {"image": 2, "along": 25, "across": 25}
    assert (tmp_path / "figures" / "loss_landscape.svg").exists()


def test_ctrl_c_leaves_readable_results_and_exit_code_130(tmp_path):
    asked = ["--data", "digits", "--limit", "300", "--chunk", "2", "--no-preflight", "--no-progress"]
    asked += ["--perturb", "pgd:eps=0.01,steps=400", "-o", str(tmp_path)]
    command = [sys.executable, "-c", "from netprobe.cli import main; main()", "evaluate", "a=digits_cnn", *asked]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    with process:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("units/*.npz"))) < 160 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "the same command goes on from there" in said and "Traceback" not in said
    done = open_results(tmp_path / "results.nc")["a/evaluation/images"].values
    assert done[0] == 300 and 0 < done[1] < 300
