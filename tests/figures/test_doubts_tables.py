"""The tables of doubts have a line for each network, with the verdict of the evaluation, and name what was flagged."""

import pytest
from torch import nn

import netprobe as npb
from netprobe.recipes import QUICK


class Scaled(nn.Module):
    """The same decisions, with a cross-entropy that has no gradient left."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return 1e4 * self.net(x)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    train, test = npb.data.load("digits", "train"), npb.data.load("digits", limit=20)
    quick = QUICK.with_settings(epochs=4, batch_size=64, validation=0.0)
    net = npb.fit("natural", "digits_cnn", train, quick, progress=False).model
    attacks = npb.sweep("pgd:steps=3", eps=[0.1, 0.2])
    return npb.evaluate({"net": net, "scaled": Scaled(net)}, test, attacks, probe_images=20, progress=False)


def test_what_is_flagged_is_shown_with_its_evidence(results, monkeypatch):
    from test_all_figures import FIGURES

    monkeypatch.syspath_prepend(FIGURES)
    import doubted

    lines = doubted.rows(results)
    head, net, scaled = (line.strip("| ").split(" | ") for line in (lines[0], lines[2], lines[3]))
    assert len(net) == len(scaled) == len(head) + 1  # the first column has no name
    assert (net[0], scaled[0]) == ("net", "scaled")
    for line, verdict in zip((net, scaled), results["doubts/verdict"].values, strict=True):
        assert line[-1] == verdict
    assert scaled[1 + head.index("scaled-up logits")] == "flagged" and "flagged" not in net
    (found,) = (line for line in lines if line.startswith("scaled, scaled-up logits (error): "))
    assert "images" in found and "digits, 20 images" in lines
