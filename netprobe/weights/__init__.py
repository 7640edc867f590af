"""What the parameters alone tell: spectra of the convolutions, sparsity of the filters, batch-norm statistics."""

from netprobe.weights.batch_norm import batch_norm
from netprobe.weights.drift import batch_norm_drift
from netprobe.weights.filters import filters

__all__ = ["batch_norm", "batch_norm_drift", "filters"]
