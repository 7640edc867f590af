"""The command line: help, exit codes, messages, and the files it leaves."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from scipy.io import wavfile

import netprobe as npb
from netprobe.cli import main
from netprobe.cli.models import normalization, parse
from netprobe.cli.options import named_perturbations
from netprobe.errors import NetprobeError
from netprobe.models import digits_cnn
from netprobe.settings import ProbeSettings
from netprobe.store import open_results, provenance

VERBS = ("demo", "layers", "check", "probe", "compare", "weights", "report", "merge", "perturbations")
SMALL = ["--data", "digits", "--limit", "24", "--perturb", "noise=gaussian:std=0.1", "--no-preflight", "--no-progress"]


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "digits.pt"
    torch.save(digits_cnn().state_dict(), path)
    return path


def test_recordings_of_unequal_length_are_brought_to_one(tmp_path):
    for word, samples in (("yes", 900), ("no", 700)):
        (tmp_path / word).mkdir()
        for number in range(2):
            wavfile.write(tmp_path / word / f"{number}.wav", 8000, np.full(samples + number, 1000, np.int16))
    arguments = ["check", "words_mlp,samples=800,rate=8000,hidden=4,num_classes=2", "--data", tmp_path]
    assert "differ in length" in run(*arguments, code=2)
    assert "14 checks" in run(*arguments, "--length", 800)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb):
    output = run(verb, "--help")
    assert output.startswith("Usage:") and len(output.splitlines()) > 6


def test_the_overview_names_every_verb_and_the_exit_codes():
    output = run("--help")
    assert all(f"\n  {verb} " in output for verb in VERBS) and "Exit codes" in output


def test_help_needs_no_torch():
    command = "import sys, netprobe.cli; assert 'torch' not in sys.modules and 'xarray' not in sys.modules"
    subprocess.run([sys.executable, "-c", command], check=True)


def test_flags_are_the_fields_of_the_settings():
    options = {parameter.name: parameter for parameter in main.commands["probe"].params}
    for name, field in ProbeSettings.__dataclass_fields__.items():
        assert options[name].help == field.metadata["help"] and options[name].default == field.default


def test_layers_lists_shapes_parameters_and_multiply_adds(checkpoint):
    output = run("layers", f"digits_cnn@{checkpoint}", "--input", "1,8,8", "--sites", "conv1,linear")
    header, conv, linear = output.splitlines()
    assert header.split() == ["site", "type", "shape", "parameters", "multiply-adds"]
    assert conv.split()[1:] == ["conv1", "Conv2d", "16x8x8", "144", "9,216"]  # 3*3*16 weights at 8*8 places
    assert linear.split()[1:] == ["linear", "Linear", "10", "650", "640"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["layers", "resnet21"], "unknown architecture 'resnet21': did you mean 'resnet"),
        (["layers", "digits_cnn", "--input", "1x8x8"], "write the shape of one input"),
        (["layers", "digits_cnn", "--input", "1,8,8", "--sites", "conv9*"], "unknown site pattern 'conv9*'"),
        (["probe", "digits_cnn", "--data", "digitz"], "digits"),
        (["probe", "digits_cnn", "--data", "digits", "--perturb", "pgt:eps=0.1"], "did you mean 'pgd'"),
        (["probe", "digits_cnn", "--data", "digits", "--metrics", "psrr"], "did you mean 'psr'"),
        (["probe", "digits_cnn", "digits_cnn", "--data", "digits"], "give each its own"),
        (["compare", "digits_cnn", "--data", "digits"], "two models or more"),
        (["compare", "a=digits_cnn", "b=digits_cnn", "--data", "digits", "--spectra"], "--evaluate, --sweep or"),
        (["probe", "digits_cnn", "--data", "digits", "--shard", "4/4"], "write i/n"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(arguments, said, tmp_path):
    extra = ["-o", tmp_path] if arguments[0] in ("probe", "compare") else []
    output = run(*arguments, *extra, code=2)
    assert said in " ".join(output.split()) and "Traceback" not in output


def test_a_bare_checkpoint_asks_for_its_architecture(checkpoint):
    assert "--arch" in run("layers", checkpoint, "--input", "1,8,8", code=2)
    assert "conv1" in run("layers", checkpoint, "--arch", "digits_cnn", "--input", "1,8,8")


def test_check_exits_with_1_on_an_error(checkpoint):
    assert "accuracy" in run("check", f"digits_cnn@{checkpoint}", "--data", "digits")  # chance is a warning
    assert "classes" in run("check", "mlp,num_classes=4", "--data", "digits", code=1)


def test_compare_writes_results_figures_and_report(checkpoint, tmp_path):
    models = (f"a=digits_cnn@{checkpoint}", "b=digits_cnn")
    output = run("compare", *models, *SMALL, "--sites", "conv", "--gradcam", 2, "--no-weights", "-o", tmp_path)
    assert "Accuracy, clean" in output and str(tmp_path / "report.html") in output
    tree = open_results(tmp_path / "results.nc")
    assert set(tree.children) == {"a", "b"} and not (tmp_path / "partial.pt").exists()
    assert set(tree["a"].children) >= {"accuracy", "psr", "snr", "hoyer", "spectrum", "correlation", "gradcam"}
    assert provenance(tree)["models"]["a"]["source"]["checkpoint"].endswith("digits.pt")
    assert {p.stem for p in (tmp_path / "figures").glob("*.svg")} >= {
        "psr-noise",
        "psr_ridge",
        "spectrum-channel",
        "gradcam",
    }
    page = (tmp_path / "report.html").read_text()
    (tmp_path / "report.html").unlink()
    run("report", tmp_path / "results.nc")
    assert (tmp_path / "report.html").read_text() == page


def test_compare_tells_accuracies_beside_what_it_probes(checkpoint, tmp_path):
    models = (f"a=digits_cnn@{checkpoint}", "b=digits_cnn")
    few = ("--metrics", "snr", "--sites", "conv", "--no-weights", "--gradcam", 1, "--gradcam-at", "conv1")
    more = ("--sweep", "gaussian std=0,0.1", "--corruptions", "5", "--evaluate", "near=zoo:steps=2,coordinates=4")
    more = (*more, "--spectra")
    output = run("compare", *models, *SMALL, *few, *more, "-o", tmp_path)
    assert "Median minimum norm, near" in output and "Mean error under corruptions" in output
    tree = open_results(tmp_path / "results.nc")
    assert set(tree["a"].children) >= {"accuracy", "snr", "gradcam", "evaluation", "minimum_norm", "corruptions"}
    assert tree["a/gradcam"].attrs["target_site"] == "conv1"
    assert "perturbation_spectrum" in tree["a"].children and "frequency_gains" in tree["b"].children
    assert provenance(tree)["evaluation"]["perturbations"]["gaussian@0.1"]
    assert "gaussian@0.1" not in tree["a/accuracy"]["condition"]
    sweep = npb.sweep("gaussian", std=[0, 0.1])
    images = npb.data.load("digits", limit=24)
    alone = npb.evaluate({"a": npb.load("digits_cnn", checkpoint)}, images, sweep, doubts=False, progress=False)
    both = [t["a/evaluation"]["correct"].sel(condition="gaussian@0.1").values for t in (tree, alone)]
    assert np.array_equal(*both)
    assert {p.stem for p in (tmp_path / "figures").glob("*.svg")} >= {
        "snr-noise",
        "robustness_curve-gaussian",
        "minimum_norm",
    }


def test_probe_takes_sweeps_and_corruptions(checkpoint, tmp_path):
    more = ("--sweep", "pgd:steps=1 eps=0.05,0.1", "--corruptions", "5", "--metrics", "psr", "--sites", "conv1")
    run("probe", f"m=digits_cnn@{checkpoint}", "--data", "digits", "--limit", 8, *more, "-o", tmp_path)
    perturbations = open_results(tmp_path / "results.nc")["m/psr"]["perturbation"].values.tolist()
    assert perturbations[:2] == ["pgd@0.05", "pgd@0.1"] and "contrast@5" in perturbations


def test_shards_merge_to_the_whole(checkpoint, tmp_path):
    common = ["probe", f"m=digits_cnn@{checkpoint}", *SMALL, "--dtype", "float64", "--sites", "conv"]
    for shard in (0, 1):
        run(*common, "--shard", f"{shard}/2", "-o", tmp_path / f"{shard}")
    run(*common, "-o", tmp_path / "whole")
    run("merge", tmp_path / "0/partial.pt", tmp_path / "1/partial.pt", "-o", tmp_path / "merged")
    merged, whole = (open_results(tmp_path / name / "results.nc") for name in ("merged", "whole"))
    for metric in ("psr", "hoyer", "spectrum", "correlation", "accuracy"):
        # float64 sums in another order: 1e-10 is five digits above their rounding
        xr.testing.assert_allclose(merged["m"][metric].ds, whole["m"][metric].ds, rtol=1e-10, atol=1e-12)


def test_ctrl_c_leaves_what_was_done_and_the_same_command_goes_on(checkpoint, tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import os, signal, netprobe.perturb.noise as noise\n"
        "real, calls = noise.GaussianNoise.__call__, []\n"
        "def counted(self, *args, **kwargs):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 3: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(self, *args, **kwargs)\n"
        "noise.GaussianNoise.__call__ = counted\n"
        "from netprobe.cli import main; main()\n"
    )
    arguments = ["probe", f"m=digits_cnn@{checkpoint}", *SMALL, "--batch-size", "5", "--sites", "conv", "-o", tmp_path]
    stopped = subprocess.run([sys.executable, slow, *map(str, arguments)], capture_output=True, text=True)
    assert stopped.returncode == 128 + signal.SIGINT, stopped.stderr
    assert "the same command goes on" in stopped.stderr
    half = open_results(tmp_path / "results.nc")
    assert not provenance(half)["complete"] and half["m/psr"].sizes["image"] == 10
    run(*arguments)
    whole = open_results(tmp_path / "results.nc")
    assert provenance(whole)["complete"] and whole["m/psr"].sizes["image"] == 24
    np.testing.assert_array_equal(whole["m/psr"]["psr"][..., :10], half["m/psr"]["psr"])


@pytest.mark.parametrize(
    ("text", "name", "what", "checkpoint", "settings"),
    [
        ("resnet20", "resnet20", "resnet20", None, {}),
        ("torchvision:resnet18", "resnet18", "torchvision:resnet18", None, {}),
        ("my/net.py:make@w/a.pt", "a", "my/net.py:make", "w/a.pt", {}),
        ("at=resnet18@a=b.pt,normalize=cifar10", "at", "resnet18", "a=b.pt", {"normalize": "cifar10"}),
        ("mlp,num_classes=4", "mlp", "mlp", None, {"num_classes": 4}),
        ("shallow,batch_norm=true,p=none", "shallow", "shallow", None, {"batch_norm": True, "p": None}),
    ],
)
def test_model_arguments(text, name, what, checkpoint, settings):
    model = parse(text)
    assert (model.name, model.what, model.checkpoint, model.settings) == (name, what, checkpoint, settings)


def test_normalisations():
    assert normalization(None) is None and normalization("none") is None and normalization("imagenet") == "imagenet"
    assert normalization("0.5,0.4:0.2,0.1") == ((0.5, 0.4), (0.2, 0.1))
    with pytest.raises(NetprobeError, match="MEAN:STD"):
        normalization("a:b")


def test_without_perturbations_there_are_two_by_name():
    assert named_perturbations(()) == {"pgd": "pgd:eps=8/255,steps=20", "gaussian": "gaussian:std=0.1"}


def test_compare_needs_no_perturbation_to_draw_maps(checkpoint, tmp_path):
    models = (f"a=digits_cnn@{checkpoint}", "b=digits_cnn")
    few = ["--data", "digits", "--limit", "10", "--metrics", "psr", "--sites", "conv", "--gradcam", 1]
    run("compare", *models, *few, "--no-preflight", "--no-progress", "--no-weights", "-o", tmp_path)
    maps = open_results(tmp_path / "results.nc")["a/gradcam"]
    assert list(maps["condition"].values) == ["clean", "pgd", "gaussian"]


def test_perturbations_are_named_by_kind_or_by_the_user():
    specs = ("pgd:eps=0.1", "pgd:eps=0.2,norm=l2", "noise=gaussian:std=0.1")
    assert named_perturbations(specs) == {
        "pgd": "pgd:eps=0.1",
        "pgd:eps=0.2,norm=l2": "pgd:eps=0.2,norm=l2",
        "noise": "gaussian:std=0.1",
    }
