"""Every enrolled metric keeps the laws of `netprobe.testing`; a new one is tested by being in METRICS.

A metric that cannot be made without settings needs an entry in EXAMPLES, a setting that takes another path one in
VARIANTS.
"""

from __future__ import annotations

import pytest

import netprobe as npb
from netprobe.errors import NetprobeError
from netprobe.metrics import METRICS, CorrelationShift, CrossValidatedSpectrum, Metric, Spectrum
from netprobe.testing.comparing import assert_same
from netprobe.testing.metrics import LAWS, NEIGHBOURS, RTOL, MetricSubject
from netprobe.testing.samples import ConvNet, images, seeded

EXAMPLES = {"cv_spectrum": lambda: CrossValidatedSpectrum(repeats=("near", "far"), swaps=2, first=2)}
VARIANTS = {
    "spectrum of all kinds": Spectrum(definitions=("channel", "pooled", "unit"), first=1, jackknife=True),
    "spectrum, weighted": Spectrum(definitions=("pooled",), first=1, weighting="stringer", jackknife=True),
    "correlation, pooled": CorrelationShift(unit="pooled"),
}
METRIC_CASES: dict[str, Metric] = {name: EXAMPLES.get(name, cls)() for name, cls in METRICS.ours.items()} | VARIANTS
# Random swaps of repeats are drawn image after image.
ORDERED = {"cv_spectrum": ("*",)}
# Exponents, and what is made of them, take the logarithm of the smallest eigenvalues.
LOGARITHMS = dict.fromkeys(["*alpha*", "*r2*", "*prefactor*", "*interval*"], 1e-3)
COUNTS = ("silent", "live_units")
SUBJECTS = {
    name: MetricSubject(metric, ORDERED.get(metric.name, NEIGHBOURS), LOGARITHMS, COUNTS)
    for name, metric in METRIC_CASES.items()
}
LINKING = {name: subject for name, subject in SUBJECTS.items() if subject.links_images}


@pytest.mark.parametrize("law", LAWS, ids=[law.name for law in LAWS])
@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_every_metric_keeps_the_laws(law, subject):
    if law.applies(subject):
        law(subject)


@pytest.mark.parametrize("subject", SUBJECTS.values(), ids=SUBJECTS)
def test_clean_and_perturbed_images_may_share_a_batch_or_not(subject):
    assert_same(subject.run(batch_size=7, paired=False), subject.whole, RTOL)


@pytest.mark.parametrize("subject", LINKING.values(), ids=LINKING)
def test_what_links_all_images_refuses_shards_before_any_work(subject):
    def work(model, x, y, *, generator):
        raise AssertionError("work before the error")

    settings = {"shard": "0/2", "preflight": False, "progress": False}
    with pytest.raises(NetprobeError, match="need all images in one part"):
        npb.gather(seeded(ConvNet), images(), {"near": work, "far": work}, subject.metric, "conv1", **settings)
