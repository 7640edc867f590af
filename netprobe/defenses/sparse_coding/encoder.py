"""The encoder: patches, their projections on the atoms of a dictionary, the largest few of them, quantised."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netprobe.defenses.quantiser import quantise
from netprobe.defenses.sparse_coding.code import Code
from netprobe.defenses.sparse_coding.passes import Replaced
from netprobe.errors import NetprobeError
from netprobe.perturb.backward import in_gradient

PROJECTIONS_AT_ONCE = 2**24
"""Bytes of projections in memory at a time. Codes of more images are made in parts, at least one image at a time."""


def patches_across(size: int, patch: int, stride: int) -> int:
    """m = (N - n) / S + 1, how many patches of n pixels, S apart, lie along a side of N; they must end at its end."""
    if patch > size:
        raise NetprobeError(f"patches of {patch} pixels do not fit into images of {size}: choose patch={size} or less")
    if (size - patch) % stride:
        fitting = [s for s in range(1, size - patch + 1) if not (size - patch) % s]
        raise NetprobeError(
            f"patches of {patch} pixels, {stride} apart, do not tile images of {size}: the last {size - patch} pixels "
            f"are no multiple of the stride; choose stride={' or '.join(map(str, fitting)) or 1}"
        )
    return (size - patch) // stride + 1


class Encoder(nn.Module):
    """Images x (N, C, H, W) to the codes of their patches: with atoms d_l of unit L2 norm,

        a_l = <d_l, patch>                                        projections
        a_l = 0 but for the T largest |a_l| of a patch            top-T; each keeps its sign
        a_l = a_l b_l,  b_l = 1 with probability 1 - p, else 0    dropout, anew in every pass, not rescaled
        c_l = s_l f(a_l / s_l),  s_l = ||d_l||_1,  f(r) = 1/2 (sgn(r - j) + sgn(r + j)),  j = beta eps

    so that c_l is 0 or +-||d_l||_1. No perturbation with max |e| <= eps moves a_l by more than eps ||d_l||_1
    (Hoelder), so that with beta > 1 none makes a coefficient change its sign.

    Parameters
    ----------
    channels, patch, stride, atoms : C, n and S in pixels, L. `dictionary` (L, C, n, n) holds the atoms as filters, a
        buffer; random ones until `learn_dictionary` has found others.
    top, dropout : T and p.
    beta, eps : the dead zone; eps in input units, the budget that is assumed, whatever that of an attack is.
    sign_less : |a_l| in place of a_l after top-T, as the first published code has it; codes are 0 or ||d_l||_1.
    quantised : without, c_l = a_l.
    sharpness, reach : k and U / T of the backward passes (`passes.Replaced`).

    Projections are made in float32 at least, under autocast too: what is kept is decided by small differences, and
    the same patch gives the same projections in whatever layout of memory. At an exact tie of the T-th and the next
    coefficient one of them is kept.

    Cost of an image of CIFAR's size: 11 million multiplications, and a selection from L numbers, unsorted, a patch. At
    most `PROJECTIONS_AT_ONCE` bytes of projections are held at a time, some five times as many with their working
    copies.

    References
    ----------
    Bakiskan, Cekic, Sezer and Madhow, arXiv 2011.10867 and 2104.05353; Bakiskan 2022, section 4.2, equation 4.6.

    >>> import torch
    >>> from netprobe.defenses.sparse_coding import Encoder
    >>> encoder = Encoder(channels=1, patch=4, stride=2, atoms=20, top=3).eval()
    >>> code = encoder(torch.rand(2, 1, 8, 8))
    >>> code.values.shape, code.atoms
    (torch.Size([2, 3, 3, 3]), 20)
    """

    def __init__(
        self,
        *,
        channels: int = 3,
        patch: int = 4,
        stride: int = 2,
        atoms: int = 500,
        top: int = 15,
        dropout: float = 0.0,
        beta: float = 3.0,
        eps: float = 8 / 255,
        sign_less: bool = False,
        quantised: bool = True,
        sharpness: float = 4.0,
        reach: float = 2.0,
    ) -> None:
        super().__init__()
        if not 1 <= top <= atoms:
            raise NetprobeError(f"top={top} of {atoms} atoms cannot be kept: choose top from 1 to {atoms}")
        self.patch, self.stride, self.top, self.dropout = patch, stride, top, dropout
        self.beta, self.eps, self.sign_less, self.quantised = beta, eps, sign_less, quantised
        self.sharpness, self.reach = sharpness, reach
        drawn = torch.randn(atoms, channels, patch, patch)
        self.register_buffer("dictionary", drawn / drawn.flatten(1).norm(dim=1).view(-1, 1, 1, 1))

    @property
    def atoms(self) -> int:
        return len(self.dictionary)

    @property
    def threshold(self) -> float:
        """j = beta eps, in units of ||d_l||_1."""
        return self.beta * self.eps

    def forward(self, x: Tensor, followed: Replaced | None = None) -> Code:
        """The code of x (N, C, H, W); gradients as `followed` has them, None: the true ones, which are zero."""
        self.check(x)
        at_once = self._images_at_once(x)
        with torch.autocast(x.device.type, enabled=False):
            parts = zip(x.split(at_once), *(each.split(at_once) for each in self.drawn(x, followed)), strict=True)
            return Code.joined([self._coded(*part, followed) for part in parts])

    def project(self, x: Tensor) -> Tensor:
        """The projections (N, m, m, L) of the patches of x on all atoms, the atoms contiguous."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return self.patches(x.to(wide)) @ self.dictionary.flatten(1).to(wide).t()

    def patches(self, x: Tensor) -> Tensor:
        """The patches (N, m, m, C n n) of x (N, C, H, W), row by row; the values of one channel after the other."""
        cut = x.unfold(2, self.patch, self.stride).unfold(3, self.patch, self.stride)
        return cut.permute(0, 2, 3, 1, 4, 5).flatten(3)

    def lengths(self) -> Tensor:
        """||d_l||_1 (L,)."""
        return self.dictionary.flatten(1).abs().sum(1)

    def check(self, x: Tensor) -> None:
        """Refuse images that the patches do not tile."""
        if x.ndim != 4 or x.shape[1] != self.dictionary.shape[1]:
            raise NetprobeError(
                f"the encoder is for images of {self.dictionary.shape[1]} channels, not for a {tuple(x.shape)} tensor"
            )
        for side in x.shape[2:]:
            patches_across(side, self.patch, self.stride)

    def drawn(self, x: Tensor, followed: Replaced | None) -> tuple[Tensor, Tensor]:
        """The ranks by size, from 0, of the coefficients to look at, and which of these dropout keeps: (N, m, m, K).

        The T largest meet the same random numbers in every backward pass.
        """
        patches = (len(x), *(patches_across(side, self.patch, self.stride) for side in x.shape[2:]))
        selected = self._selected(followed)
        ranks = torch.arange(selected, device=x.device).expand(*patches, selected)
        if not self.dropout:
            return ranks, torch.ones_like(ranks[:1, :1, :1], dtype=torch.bool).expand_as(ranks)
        draws = [torch.rand(*patches, count, device=x.device) for count in (self.top, selected - self.top)]
        kept = torch.cat(draws, -1) >= self.dropout
        if x.device.type != "cpu" or (followed is not None and followed.undropped):
            return ranks, kept
        # Dropped coefficients have neither value nor gradient; elsewhere the host would have to wait for their number.
        first = kept.to(torch.uint8).topk(max(int(kept.sum(-1).max()), 1), -1).indices
        return ranks.gather(-1, first), kept.gather(-1, first)

    def _coded(self, x: Tensor, ranks: Tensor, kept: Tensor, followed: Replaced | None) -> Code:
        projections = self.project(x)
        index = projections.detach().abs().topk(self._selected(followed), -1).indices.gather(-1, ranks)
        a = projections.gather(-1, index)
        a = a.abs() if self.sign_less else a
        if followed is not None:
            a = in_gradient(a * (ranks < self.top), a)
        left = a * kept if self.dropout else a
        if followed is not None and followed.undropped:
            left = in_gradient(left, a)
        return Code(self._quantised(left, index, followed).to(x.dtype), index, self.atoms)

    def _selected(self, followed: Replaced | None) -> int:
        """How many coefficients of a patch, the largest first, values or gradients pass through."""
        support = "top" if followed is None else followed.support
        return {"top": self.top, "topu": min(round(self.reach * self.top), self.atoms), "all": self.atoms}[support]

    def _quantised(self, a: Tensor, index: Tensor, followed: Replaced | None) -> Tensor:
        if not self.quantised:
            return a
        length, surrogate = self.lengths().to(a.dtype)[index], None if followed is None else followed.quantiser
        return quantise(a / length, (-self.threshold, self.threshold), surrogate, self.sharpness) * length

    def _images_at_once(self, x: Tensor) -> int:
        down, across = (patches_across(side, self.patch, self.stride) for side in x.shape[2:])
        return max(PROJECTIONS_AT_ONCE // (4 * down * across * self.atoms), 1)
