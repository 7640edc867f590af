"""Where a convolutional network's stem and stages end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from netprobe.defenses.regularisers.closed import ELEMENTWISE
from netprobe.errors import NetprobeError
from netprobe.sites import Site
from netprobe.weights.layers import CONVOLUTIONS

ACTIVATIONS = {kind.__name__ for kind in ELEMENTWISE}


def stages(sites: Sequence[Site]) -> list[Site]:
    """The stem's output, and the last output at every resolution.

    The stem ends at the first activation behind the first convolution (at the convolution, where no module is an
    activation); a stage ends where height and width fall. Maps of one pixel, which are pooled, do not count.
    """
    maps = [site for site in sites if _is_map(site)]
    begun = next((at for at, site in enumerate(maps) if site.lineage & CONVOLUTIONS), None)
    if begun is None:
        raise NetprobeError("no convolution makes maps here, so there are no stages: name the sites (sites=...)")
    behind = [site for site in maps[begun:] if site.kind in ACTIVATIONS]
    stem = behind[0] if behind else maps[begun]
    later = [site for site in maps if site.order >= stem.order]
    ends = [list(group)[-1] for _, group in itertools.groupby(later, lambda site: site.shape[1:])]
    return [stem, *(end for end in ends if end is not stem)]


def _is_map(site: Site) -> bool:
    """Whether it is the only output of a module, (C, H, W) an image, H W > 1."""
    alone = site.where == "output" and not site.part and site.batch_axis == 0 and site.module
    return bool(alone) and len(site.shape) == 3 and site.channel_axis == 1 and site.shape[1] * site.shape[2] > 1
