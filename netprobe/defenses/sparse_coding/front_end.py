"""The sparse coding front end: an image is coded, and what is left of it decoded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from netprobe.defenses.front_end import FrontEnd
from netprobe.defenses.sparse_coding.decoder import Decoder
from netprobe.defenses.sparse_coding.encoder import Encoder
from netprobe.defenses.sparse_coding.passes import FRONT_END, check_passes, passes, replaced
from netprobe.errors import NetprobeError
from netprobe.perturb.backward import in_gradient

REALISATIONS = 10


class SparseCoding(FrontEnd):
    """Images (N, C, size, size) to images of the same shape, `decoder(encoder(x))`.

    Parameters
    ----------
    backward_passes : names of the passes that attacks are to try; None: all of `passes.passes`, the strongest first.
        An attribute, so that those of a trained network can be chosen too.

    With dropout, predictions are means over 10 `realisations`.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, backward_passes: Sequence[str] | None = None) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.reconstructs = False  # whether it is being trained to; says nothing of what it computes
        self.random = bool(encoder.dropout)
        self.realisations = REALISATIONS if self.random else 1
        chosen = passes(self.random) if backward_passes is None else tuple(backward_passes)
        self.backward_passes = check_passes(chosen, self.random)

    def transform(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.decoder.size, self.decoder.size):
            size = self.decoder.size
            raise NetprobeError(f"the front end is for images of {size} x {size} pixels, not {tuple(x.shape[2:])}")
        if self.followed == FRONT_END:
            with torch.no_grad():
                exact = self.decoder(self.encoder(x))
            return in_gradient(exact, x)
        return self.decoder(self.encoder(x, None if self.followed is None else replaced(self.followed)))
