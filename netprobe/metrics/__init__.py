"""Quantities of a network's sites: one file each, enrolled in METRICS by name; plug-ins in "netprobe.metrics"."""

from __future__ import annotations

from collections.abc import Iterable

from netprobe.enrolled import Enrolled
from netprobe.errors import NetprobeError, unknown
from netprobe.metrics.base import Metric, Readings
from netprobe.metrics.channel_moments import ChannelMoments
from netprobe.metrics.correlation import CorrelationShift
from netprobe.metrics.cross_validated import CrossValidatedSpectrum
from netprobe.metrics.perturbation_ratio import PSR, SNR
from netprobe.metrics.similarity import CKA
from netprobe.metrics.similarity_matrix import Similarity
from netprobe.metrics.sparsity import Hoyer
from netprobe.metrics.spectrum import Spectrum

__all__ = [
    "CKA",
    "METRICS",
    "PSR",
    "SNR",
    "ChannelMoments",
    "CorrelationShift",
    "CrossValidatedSpectrum",
    "Hoyer",
    "Metric",
    "Readings",
    "Similarity",
    "Spectrum",
]

METRICS = Enrolled(
    "metric",
    Metric,
    (PSR, SNR, Hoyer, Spectrum, CorrelationShift, CKA, CrossValidatedSpectrum, ChannelMoments, Similarity),
)


def resolve(metrics: str | Metric | Iterable[str | Metric]) -> tuple[Metric, ...]:
    """Metric objects from names ("psr,snr", or a list of names and objects); each name once."""
    given = metrics.split(",") if isinstance(metrics, str) else [metrics] if isinstance(metrics, Metric) else metrics
    resolved = tuple(m if isinstance(m, Metric) else _by_name(m.strip()) for m in given)
    names = [metric.name for metric in resolved]
    for name in names:
        if names.count(name) > 1:
            raise NetprobeError(f"the metric {name!r} is given twice; give each metric once, and probe again for more")
    return resolved


def _by_name(name: str) -> Metric:
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]()
