"""The decoder: from the codes of patches to an image for the classifier."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from netprobe.defenses.sparse_coding.code import Code
from netprobe.defenses.sparse_coding.encoder import patches_across
from netprobe.defenses.sparse_coding.transpose import CodeTranspose

UPSAMPLINGS = ("strides", "bicubic")
WIDTHS = (300, 100)


class Decoder(nn.Module):
    """Codes over m x m patches to images (N, C, size, size) in [0, 1]; three transposed convolutions without padding.

        strides   ConvT(L, 300, patch, stride)  ReLU                                   size
        bicubic   ConvT(L, 300, 3)              ReLU, bicubic resizing                 size + 2
        both      ConvT(300, 100, 3) ReLU, ConvT(100, C, 3) ReLU                       + 4
                  the middle size x size pixels, clamped to [0, 1]

    With 32 pixels, patches of 4, stride 2 and `strides`: 15, 32, 34, 36, then 32; 2.67 million parameters. With 160
    pixels, patches of 8, stride 4 and `bicubic`: 39, 41, 162, 164, 166, then 160. `size` is that of the images that
    the patches tile. Nothing asks that an image be reconstructed, unless the decoder is trained to.

    Bakiskan, Cekic, Sezer and Madhow, arXiv 2011.10867 and 2104.05353.
    """

    def __init__(
        self,
        *,
        size: int,
        channels: int = 3,
        patch: int = 4,
        stride: int = 2,
        atoms: int = 500,
        upsampling: str = "strides",
        widths: tuple[int, int] = WIDTHS,
    ) -> None:
        super().__init__()
        patches_across(size, patch, stride)
        self.size, self.upsampling = size, upsampling
        kernel, step = (patch, stride) if upsampling == "strides" else (3, 1)
        self.first = CodeTranspose(atoms, widths[0], kernel, step)
        self.second = nn.ConvTranspose2d(*widths, 3)
        self.third = nn.ConvTranspose2d(widths[1], channels, 3)

    def forward(self, code: Code) -> Tensor:
        out = relu(self.first(code))
        if self.upsampling == "bicubic":
            out = interpolate(out, size=(self.size + 2, self.size + 2), mode="bicubic", align_corners=False)
        return centred(relu(self.third(relu(self.second(out)))), self.size).clamp(0, 1)


def centred(x: Tensor, size: int) -> Tensor:
    """The middle size x size pixels."""
    top, left = ((side - size) // 2 for side in x.shape[2:])
    return x[..., top : top + size, left : left + size]
