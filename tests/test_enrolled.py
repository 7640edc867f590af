"""Classes of other packages, enrolled through entry points: a package that lives in the tests, and broken ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from netprobe.enrolled import Enrolled
from netprobe.errors import NetprobeError
from netprobe.metrics import METRICS
from netprobe.metrics.base import Metric

PLUGIN = Path(__file__).parent / "plugin" / "neighbours.py"
ENTRIES = """
[netprobe.metrics]
energy = neighbours:Energy
[netprobe.perturbations]
darken = neighbours:Darken
[netprobe.defenses]
smooth-labels = neighbours:SmoothLabels
[netprobe.regularisers]
centred = neighbours:Centred
"""


def installed(folder: Path, entries: str, package: str = "neighbours", version: str = "1.2") -> Path:
    """What `pip install` leaves of a package: its metadata and its entry points, in `folder`."""
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entries)
    return folder


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory) -> Path:
    """A folder in which a package with one class of every kind is installed."""
    folder = installed(tmp_path_factory.mktemp("site"), ENTRIES)
    shutil.copy(PLUGIN, folder)
    return folder


USES = """
import sys
import netprobe as npb
from netprobe.defenses import DEFENSES
from netprobe.metrics import METRICS
npb.perturb.parse("pgd:eps=0.1")
assert "neighbours" not in sys.modules, "loaded before anyone asked"

data = npb.data.load("digits", limit=20)
trained = npb.fit("smooth-labels:eps=0.2", "digits_cnn", npb.data.load("digits", "train", limit=40), "quick", epochs=1,
                  regularise="centred:coupling=0.1", out=sys.argv[1], progress=False)
model = npb.load(f"{sys.argv[1]}/best.pt")
described = {"defense": "smooth-labels", "class": "neighbours.SmoothLabels", "eps": 0.2}
assert model.netprobe_source["defense"] == described
assert "centred" in trained.history
tree = npb.probe(model, data, {"dark": "darken:by=0.2"}, "energy", preflight=False, progress=False,
                 partial=f"{sys.argv[1]}/partial.pt")
assert tree["ConvNet/energy/energy"].dims == ("perturbation", "site")
assert npb.merge([f"{sys.argv[1]}/partial.pt"]).compute().identical(tree)
assert "energy" in METRICS and list(METRICS)[-1] == "energy" and len(METRICS) == len(METRICS.ours) + 1

from click.testing import CliRunner
from netprobe.cli import main
for verb, line in {"perturbations": "darken: x' = ", "metrics": "energy: E = mean", "defenses": "smooth-labels: ",
                   "regularisers": "centred: "}.items():
    assert f"\\n{line}" in CliRunner().invoke(main, [verb]).output, verb
"""


def test_classes_of_another_package_are_known_by_name_everywhere(neighbours, tmp_path):
    path = os.pathsep.join([str(neighbours), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-W", "error", "-c", USES, tmp_path], check=True, env=environment)


@pytest.fixture
def enrolling(tmp_path, monkeypatch):
    """`enrolling(entries)`: the metrics, where a package with these entry points is installed."""
    monkeypatch.syspath_prepend(tmp_path)

    def metrics(entries: str, **package: str) -> Enrolled:
        installed(tmp_path, f"[netprobe.metrics]\n{entries}\n", **package)
        return Enrolled("metric", Metric, METRICS.ours.values())

    return metrics


@pytest.mark.parametrize(
    "entry, message",
    [
        (
            "absent = no_such_module:It",
            r"'absent' of the package neighbours 1.2 cannot be imported .*ModuleNotFoundError",
        ),
        ("number = json:loads", "of the package neighbours 1.2, 'json:loads', is no subclass of netprobe.metrics.base"),
        ("other = netprobe.metrics.sparsity:Hoyer", "calls itself 'hoyer', not 'other' as its entry point does"),
        ("bare = netprobe.metrics.base:Metric", "does not define compute, observables"),
    ],
)
def test_a_plugin_that_cannot_be_used_names_its_package(entry, message, enrolling):
    metrics, name = enrolling(entry), entry.partition(" ")[0]
    assert name in metrics
    with pytest.raises(NetprobeError, match=message):
        metrics[name]
    assert metrics["psr"] is METRICS["psr"]


def test_a_name_that_two_packages_enrol_is_nobodys(enrolling):
    enrolling("energy = json:loads", package="others")
    with pytest.raises(
        NetprobeError, match=r"the package (neighbours|others) 1.2 and .* 1.2 is enrolled more than once"
    ):
        enrolling("energy = json:loads")["energy"]


def test_a_name_of_ours_stays_ours_and_the_list_says_so(enrolling):
    metrics = enrolling("psr = json:loads")
    assert metrics["psr"] is METRICS["psr"] and len(metrics) == len(METRICS.ours)
    assert metrics.shadowed == [
        "the metric 'psr' of the package neighbours 1.2 cannot be reached: netprobe has one of that name"
    ]


def test_the_list_goes_on_past_a_broken_plugin(enrolling):
    from click.testing import CliRunner

    from netprobe.cli import main

    enrolling("absent = no_such_module:It\npsr = json:loads")
    result = CliRunner().invoke(main, ["metrics"])
    assert result.exit_code == 0
    assert "hoyer: Squared-Hoyer" in result.output
    assert "absent: the metric 'absent' of the package neighbours 1.2 cannot be imported" in result.output
    assert "the metric 'psr' of the package neighbours 1.2 cannot be reached" in result.output


def test_an_unknown_name_offers_plugins_too(enrolling):
    from netprobe.metrics import resolve

    enrolling("energy = json:loads")
    with pytest.raises(NetprobeError, match="did you mean 'energy'"):
        resolve("enrgy")


def test_a_part_with_a_metric_that_nobody_enrols_says_what_to_do(tmp_path):
    import netprobe as npb
    from netprobe.probing.partial import Partial

    class Renamed(METRICS["psr"]):
        name = "renamed"

    data = npb.data.load("digits", limit=4)
    settings = {"preflight": False, "progress": False, "partial": tmp_path / "part.pt"}
    tree = npb.probe(npb.models.digits_cnn(), data, "gaussian:std=0.1", Renamed(), **settings)
    with pytest.raises(NetprobeError, match=r"holds the metric 'renamed',.*entry point of 'netprobe.metrics'"):
        Partial.load(tmp_path / "part.pt")
    loaded = Partial.load(tmp_path / "part.pt", [Renamed()])
    assert json.dumps(loaded.compute().attrs) == json.dumps(tree.attrs)
