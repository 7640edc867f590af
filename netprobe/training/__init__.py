"""Training: one loop for every defense."""

from netprobe.training.fitting import fit
from netprobe.training.tally import Diverged
from netprobe.training.trained import Trained

__all__ = ["Diverged", "Trained", "fit"]
