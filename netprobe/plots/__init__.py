"""One plot a file: `plot_x(results, ..., ax=None) -> Axes`, from labelled results alone."""

from netprobe.plots.accuracy import plot_accuracy
from netprobe.plots.alpha import plot_alpha
from netprobe.plots.cka import plot_cka
from netprobe.plots.correlation_shift import plot_correlation_shift
from netprobe.plots.drawing import save, style
from netprobe.plots.gradcam import plot_gradcam
from netprobe.plots.psr import plot_psr
from netprobe.plots.psr_ridge import plot_psr_ridge
from netprobe.plots.snr import plot_snr
from netprobe.plots.sparsity import plot_sparsity
from netprobe.plots.spectrum import plot_spectrum

__all__ = [
    "plot_accuracy",
    "plot_alpha",
    "plot_cka",
    "plot_correlation_shift",
    "plot_gradcam",
    "plot_psr",
    "plot_psr_ridge",
    "plot_snr",
    "plot_sparsity",
    "plot_spectrum",
    "save",
    "style",
]
