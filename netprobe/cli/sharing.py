"""Verbs whose images the processes of torchrun share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def shared(options: dict[str, Any]) -> Iterator[Any]:
    """Give `options` the shard, device and silence of this process of torchrun; without torchrun, leave them alone.

    When what is inside is done everywhere, all processes but the first one end.
    """
    from netprobe.devices import preferred_device
    from netprobe.errors import NetprobeError
    from netprobe.processes import leave, processes

    together = processes()
    if together.local:
        yield together
        return
    if options["shard"] != "0/1":
        raise NetprobeError(f"torchrun shares the images already: leave out --shard {options['shard']}")
    options["shard"] = f"{together.rank}/{together.size}"
    if options["device"] is None and (own := preferred_device()) is not None:
        options["device"] = str(own)
    options["progress"] = options["progress"] and together.leads
    yield together
    together.wait()
    leave()
    if not together.leads:
        sys.exit(0)
