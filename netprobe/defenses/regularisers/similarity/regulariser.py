"""S^pixel, S^Th and its variants: similarity of representations is drawn towards that of pixels, or of one's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from netprobe.data.dataset import to_float
from netprobe.defenses.regularisers.base import Penalty, Regulariser, Subject
from netprobe.defenses.regularisers.similarity.images import OWN, Drawn, regularisation_images
from netprobe.defenses.regularisers.similarity.pair_stream import PairStream
from netprobe.defenses.regularisers.similarity.penalty import Matching, check_maps
from netprobe.defenses.regularisers.similarity.stages import stages
from netprobe.defenses.regularisers.similarity.targets import PIXELS, given_similarity, target_hash
from netprobe.errors import NetprobeError
from netprobe.fields import added, choice, path, pattern, real, whole, word
from netprobe.recipes import Recipe
from netprobe.representations.base import PairSimilarity
from netprobe.representations.pixels import PixelSimilarity
from netprobe.representations.ranges import KEPT, SimilarityRange
from netprobe.sites import Site

STAGES = "stages"
MEASURES = ("fisher", "mse")
STATISTICS = ("both", "task")


@dataclass(frozen=True, kw_only=True, repr=False)
class Similarity(Regulariser):
    """R = 1/k sum_{k pairs} [f(S) - f(T)]^2,  f(s) = ln((1 + s + eta) / (1 - s + eta)) = 2 artanh s but for eta = 1e-5.

    S = sum_l w_l s_l is the network's similarity of two images: s_l the cosine of their maps at site l, each channel
    less its running mean (new = decay * old + (1 - decay) * mean of the pairs' maps, moved first, then subtracted,
    without gradient), w the softmax of learnt numbers that begin equal. T is the target that `SimilarityRange` gives
    for the cosine of the grey pixels less the mean image (`PixelSimilarity`), or for the entry of a matrix of your own
    (`target`): +1 above `threshold`, -1 below -threshold, else 0; `threshold=none`: the cosine, the entry itself.

    Parameters
    ----------
    images : "own", the training images; or a data set as for `netprobe.data.load`, in the channels of the training
        images and otherwise of any size that the network takes up to its last site. Their labels are not used.
    target : "pixels"; or an .npy file of a matrix (image, image) of similarities in [-1, 1], such as correlations of
        recorded responses, numpy.corrcoef(responses). It has a row and a column for every image of the set, in the
        order of `npb.data.load(images, split)`, of which those of the `count` images are used; for "own" images, one
        for each that was given for training (after --limit), those held out later included. Pairs that are NaN, not
        measured, are never drawn.
    count : N, of how many images pairs are drawn, every class its share; 50,000 need no matrix of 50,000^2.
    size, split : of the images of another set; `split=all` where it has no parts.
    pairs : k, drawn afresh every step, in shuffled passes over all pairs that are kept.
    kept, threshold, lower : which pairs, and their targets; see `SimilarityRange`.
    sites : patterns joined by "+"; "stages": the stem's output and that of every stage.
    statistics : "both": the pairs move batch norm's running statistics too, as in the publication; "task": they do not.
    measure : "fisher" as above, or "mse", f(s) = s.

    Notes
    -----
    R has no unit; S=0 against T=±1 costs 149. The history has S's correlation with T over the pairs of every epoch
    (missing where all targets are equal), and w_l and the mean s_l of every site. R does not go to 0: targets of ±1 are
    out of reach. With coupling=0 the pairs leave running statistics alone.
    Images are augmented once, as the training images are in the first epoch, and targets are those of the augmented
    images; beside a matrix of your own they stay as they are. Checkpoints have the hash of its values: a training goes
    on with the same values alone, wherever the file is. Cost: 2 k more images a step, in two passes, up to the last
    site. Where several processes train, each does its share of the pairs. Weight decay pulls the learnt weights of
    sites together.
    The reference code's factor 4 over (artanh S - artanh T)^2 is in R, so couplings compare. arXiv 2410.03952: coupling
    10, threshold 0.8 for CIFAR, on Fashion-MNIST, and MNIST by Fashion-MNIST; 4 and 0.2 on MNIST by itself; 10 and 0.4
    on Fashion-MNIST by MNIST. Most targets are 0 there (99.7 % on grey CIFAR-10), so that "all" is mostly
    decorrelation; kept=low is that alone.
    """

    name: ClassVar[str] = "similarity"
    title: ClassVar[str] = "similarity"
    examples: ClassVar[tuple[str, ...]] = ("similarity:images=stimuli.npz,split=all,target=neural.npy,threshold=none",)

    coupling: float = field(default=10.0, metadata=real(0, help="what the term is multiplied with; 0: only record it"))
    images: str = field(default=OWN, metadata=word(help="own: the training images; or a data set"))
    target: str = field(
        default=PIXELS, metadata=added(path((PIXELS,), help="pixels, or an .npy file of similarities (image, image)"))
    )
    count: int = field(default=5000, metadata=whole(2, help="images that pairs are drawn of"))
    size: int | None = field(default=None, metadata=whole(1, optional=True, help="side of the images of another set"))
    split: str = field(default="train", metadata=word(help="part of another set; all: of one without parts"))
    pairs: int = field(default=16, metadata=whole(1, help="pairs a step"))
    threshold: float | None = field(
        default=0.8, metadata=real(0, optional=True, help="of the targets ±1; none: the similarity of pixels itself")
    )
    kept: str = field(default="all", metadata=choice(KEPT, help="pairs by their similarity"))
    lower: float | None = field(default=None, metadata=real(0, optional=True, help="second threshold of kept=double"))
    sites: str = field(default=STAGES, metadata=pattern(help="where, as for `netprobe layers --sites`; or stages"))
    decay: float = field(default=0.9, metadata=real(0, 1, help="of the running channel means"))
    measure: str = field(default="fisher", metadata=choice(MEASURES, help="what is squared"))
    statistics: str = field(
        default="both", metadata=choice(STATISTICS, help="whose images move batch norm's running statistics")
    )
    seed: int = field(default=0, metadata=whole(0, help="of the choice of images and the order of pairs"))

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.range  # whose settings must fit together

    @property
    def range(self) -> SimilarityRange:
        """Which pairs are kept, and their targets."""
        return SimilarityRange(self.threshold, self.kept, self.lower)

    def penalty(self, subject: Subject) -> Penalty:
        at = self._sites(subject)
        settings = {"count": self.count, "size": self.size, "split": self.split, "seed": self.seed}
        images, similarity = self._compared(regularisation_images(self.images, subject, **settings), subject)
        check_maps(subject.model, at, to_float(images[:2]))
        return Matching(self, at, images, PairStream(similarity, self.range, self.seed))

    def _compared(self, drawn: Drawn, subject: Subject) -> tuple[Tensor, PairSimilarity]:
        """The images as they are stored, on the network's device, and how similar they should be."""
        if self.target == PIXELS:
            images = subject.augmented(drawn.images)
            return images, PixelSimilarity(images)
        return subject.placed(drawn.images), given_similarity(self.target, drawn, self._order)

    @property
    def _order(self) -> str:
        if self.images == OWN:
            return "the images given for training (with --limit those that it leaves), before any are held out"
        return f"npb.data.load({self.images!r}, {self.split!r})"

    def _sites(self, subject: Subject) -> list[Site]:
        chosen = stages(subject.sites) if self.sites == STAGES else subject.named(self.sites)
        flat = [site.name for site in chosen if len(site.shape) != 3 or site.channel_axis != 1 or site.batch_axis != 0]
        if flat:
            raise NetprobeError(f"{', '.join(flat)}: no maps (channels, height, width): choose outputs of convolutions")
        return chosen

    def contents(self) -> dict[str, str]:
        return {} if self.target == PIXELS else {"target": target_hash(self.target)}

    @property
    def ordered(self) -> bool:
        return self.target != PIXELS and self.images == OWN

    def recorded(self) -> tuple[str, str, str]:
        source = "the training images" if self.images == OWN else self.images
        return (
            "distance of similarities",
            "1",
            f"mean over pairs of {source} of (f(S) - f(T))^2, T of {self.target}, as the weights were at every step",
        )

    def published(self, architecture: str, shape: tuple[int, ...]) -> Recipe | None:
        """SGD in two cycles of 20 epochs, the rate 0.1 times 0.3 every 4 epochs; the epoch of least held-out loss."""
        crops = "crop-flip" if shape[1:] == (32, 32) else "none"
        return Recipe(
            **{"epochs": 40, "batch_size": 64, "lr": 0.1, "weight_decay": 0.0, "validation": 0.01, "criterion": "loss"},
            **{"schedule": "step", "gamma": 0.3, "milestones": (4, 8, 12, 16), "cycles": (20,)},
            **{"augment": crops, "padding_mode": "reflect"},
        )
