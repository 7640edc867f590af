"""`netprobe similarity`."""

from __future__ import annotations

import numpy as np
import pytest
from test_cli import run
from test_cli_weights import NET

from netprobe.store import open_results

FAST = ["--data", "digits", "--no-progress", "--no-preflight", "--resamples", "5", "--permutations", "9"]


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.py"
    path.write_text(NET)
    return f"{path}:make"


def test_it_prints_a_table_and_writes_everything(net, tmp_path):
    np.save(tmp_path / "v1.npy", np.add.outer(np.arange(12.0), np.arange(12.0)))
    arguments = [f"a={net}", f"b={net}", *FAST, "--limit", "12", "--reference", str(tmp_path / "v1.npy")]
    output = run("similarity", *arguments, "--perturb", "noise=gaussian:std=0.2", "-o", str(tmp_path / "out"))
    assert "spearman" in output and "pixels" in output
    tree = open_results(tmp_path / "out" / "results.nc")
    for model in "ab":
        assert list(tree[model].children) == ["accuracy", "similarity", "rsa", "cka_matrix"]
        assert tree[model]["rsa"]["other"].values.tolist()[:2] == ["pixels", "v1"]
        assert tree[model]["cka_matrix"]["condition"].values.tolist() == ["clean", "noise"]
    figures = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"similarity_matrices.svg", "rsa-noise.svg", "cka_matrix.svg", "similarity_joint.svg"} <= figures
    assert "Similarity of layers" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "v1.mat"], "--reference 'v1.mat': give a .npy file"),
        (["--reference", "v1=absent.npy"], "there is no file absent.npy"),
        (["--measure", "cosin"], "unknown measure 'cosin'"),
        (["--cka", "debiased"], "unknown CKA estimator 'debiased'"),
        (["--memory", "1KB"], "Gram matrices of 355 images need"),
    ],
)
def test_mistakes_are_told(net, tmp_path, arguments, message):
    output = run("similarity", net, *FAST, *arguments, "-o", str(tmp_path), code=2)
    assert message in " ".join(output.replace("│", " ").split())
