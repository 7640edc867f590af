"""Training: one loop for every defense; and networks whose parts are trained in different ways (`partial`)."""

from netprobe.training.fitting import fit
from netprobe.training.following import follow
from netprobe.training.tally import Diverged
from netprobe.training.trained import Trained

from netprobe.training import partial  # isort: skip  (it builds on the above)

__all__ = ["Diverged", "Trained", "fit", "follow", "partial"]
