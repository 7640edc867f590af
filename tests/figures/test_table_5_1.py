"""The script evaluates networks with blocks and without under noise and both norms, and prints the published rows."""

import netprobe as npb

QUICK = {"recipe": "quick", "epochs": 1, "progress": False}


def test_rows_of_named_networks_have_published_numbers(printed, tmp_path):
    train = npb.data.load("digits", "train", limit=100)
    for name, spec in (("standard", "hah:blocks=0"), ("HaH", "hah:blocks=2")):
        npb.fit(spec, "digits_cnn", train, out=tmp_path / name, **QUICK)
    networks = [f"{name}={tmp_path / name / 'best.pt'}" for name in ("standard", "HaH")]
    text = printed("diss_tab_5_1_hah.py", *networks, "--data", "digits", "--limit", 8, "-o", tmp_path / "out")
    evaluation = npb.open_results(tmp_path / "out" / "HaH.nc")["HaH/evaluation"]
    (line,) = (line for line in text.splitlines() if line.startswith("| HaH | "))
    assert line.count("(paper ") == 4 and line.endswith("(paper 27.6) |")
    assert f" {100 * float(evaluation['accuracy'].sel(condition='l2')):.1f} [" in line
    assert "noise: std=0.1\n" in text and "linf: version=apgd, eps=0.00784314" in text
