"""What netprobe asks of metrics, perturbations, defenses and regularisers, as checks that a class of your own can be
put through.

    from netprobe.testing import check_metric

    def test_my_metric():
        check_metric(MyMetric())

Each runs every law of its kind on small networks and made-up data, on a CPU in seconds, and returns the names of the
laws it checked. Broken laws are an `AssertionError` that says of each what the law is, what was seen, and how it is
usually broken. netprobe's own tests put every enrolled class through the same laws.

law.py             what a law is
samples.py         networks and data to check on
comparing.py       results, number by number
metrics.py, perturbations.py, defenses.py, regularisers.py  the laws of each kind
training.py        short trainings, and trainings that are killed
settings.py        what holds for the settings of everything that has a spec
"""

from netprobe.testing.defenses import check_defense
from netprobe.testing.metrics import check_metric
from netprobe.testing.perturbations import check_perturbation
from netprobe.testing.regularisers import check_regulariser

__all__ = ["check_defense", "check_metric", "check_perturbation", "check_regulariser"]
