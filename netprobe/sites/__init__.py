"""Where to listen: every tensor that enters or leaves a module, found by a dry run, in run order.

A *site* is one tensor of one call of one module:

    layer1.0.conv1        the output of that module
    layer1.0.conv1:in     its input
    layer1.0.relu#1       the output of the second call of a module that is called more than once (calls count from 0)
    lstm/0                the first tensor of an output that is a tuple, list, dict or dataclass
    input, output         what the whole model receives and returns
"""

from netprobe.sites.finding import find_sites
from netprobe.sites.hooks import listening, tensors
from netprobe.sites.selection import select
from netprobe.sites.site import Site

__all__ = ["Site", "find_sites", "listening", "select", "tensors"]
