"""What the parameters alone tell: spectra of the convolutions, sparsity of the filters, batch-norm statistics."""

from netprobe.weights.analysis import analyse, drift_metric, join
from netprobe.weights.batch_norm import batch_norm
from netprobe.weights.conv_spectrum import conv_spectrum
from netprobe.weights.drift import batch_norm_drift
from netprobe.weights.filters import filters

__all__ = ["analyse", "batch_norm", "batch_norm_drift", "conv_spectrum", "drift_metric", "filters", "join"]
