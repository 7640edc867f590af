"""How to train, apart from the defense: one dataclass, and the values that the papers used."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from netprobe.errors import NetprobeError, unknown
from netprobe.fields import Checked, added, choice, real, reals, refuse_unknown, switch, whole, wholes

if TYPE_CHECKING:  # they know of recipes, not the other way round
    from netprobe.defenses.base import Defense
    from netprobe.defenses.regularisers.base import Regulariser

CRITERIA = ("accuracy", "loss")
OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("constant", "step", "exponential", "cosine", "cyclic", "plateau")
AUGMENTATIONS = ("none", "crop-flip")
PADDINGS = ("zeros", "reflect")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe(Checked):
    """How to train; every field is a keyword of `netprobe.fit` and a flag of `netprobe train`.

    The defaults are those of the ResNet-18 of the partial-training study (Bakiskan 2022, section 3.1).

    >>> import netprobe as npb
    >>> npb.Recipe(epochs=30).with_settings(epochs=3)
    Recipe(epochs=3)
    """

    epochs: int = field(default=80, metadata=whole(1, help="passes over the training images"))
    batch_size: int = field(default=128, metadata=whole(1, help="images of one update, over all processes together"))
    optimizer: str = field(default="sgd", metadata=choice(OPTIMIZERS, help="how weights follow gradients"))
    lr: float = field(default=0.1, metadata=real(0, help="largest learning rate"))
    momentum: float = field(default=0.9, metadata=real(0, 1, help="of SGD; the first beta of Adam"))
    weight_decay: float = field(default=2e-4, metadata=real(0, help="L2 penalty, added to the gradient"))
    schedule: str = field(default="step", metadata=choice(SCHEDULES, help="how the learning rate changes"))
    milestones: tuple[int, ...] = field(
        default=(75,),
        metadata=wholes(
            0, help="step: epochs before which it is multiplied by gamma, like 50,75; exponential: the last without"
        ),
    )
    gamma: float = field(
        default=0.1, metadata=real(0, 1, help="step, exponential, plateau: factor of the learning rate")
    )
    factors: tuple[float, ...] | None = field(
        default=None,
        metadata=reals(0, help="step: the rate from each milestone on, as a share of lr, like 0.5,0.1; none: by gamma"),
    )
    plateau_patience: int = field(
        default=10, metadata=whole(0, help="plateau: epochs without a better criterion before the rate falls")
    )
    peak: float = field(default=0.5, metadata=real(0, 1, help="cyclic: share of the steps before the largest rate"))
    cycles: tuple[int, ...] = field(
        default=(), metadata=wholes(1, help="cyclic, step: epochs at which the rate begins anew, like 50")
    )
    cycle_momentum: bool = field(
        default=True, metadata=switch(help="cyclic: momentum falls by 0.1 while the rate rises, and comes back")
    )
    augment: str = field(default="none", metadata=choice(AUGMENTATIONS, help="random changes of training images"))
    padding: int = field(default=4, metadata=whole(0, help="crop-flip: pixels around an image before it is cropped"))
    padding_mode: str = field(default="zeros", metadata=choice(PADDINGS, help="crop-flip: what is in the padding"))
    validation: float = field(
        default=0.02, metadata=real(0, 0.9, help="share of the training images held out to choose the best epoch")
    )
    criterion: str = field(
        default="accuracy",
        metadata=choice(CRITERIA, help="of held-out images, tells the best epoch; accuracy: robust where trained so"),
    )
    patience: int = field(
        default=0, metadata=whole(0, help="epochs without a better criterion before training stops; 0: never")
    )
    ema: float = field(
        default=0.0, metadata=real(0, 1, help="decay of an average of the weights, which is then the result; 0: none")
    )
    clip: float = field(default=0.0, metadata=real(0, help="largest L2 norm of the gradient; 0: any"))
    precision: str = field(
        default="float32", metadata=choice(PRECISIONS, help="of forward and backward passes; weights stay float32")
    )
    channels_last: bool = field(default=True, metadata=switch(help="lay images out with channels last: faster"))
    compile: bool = field(default=False, metadata=switch(help="torch.compile the network, for long runs"))
    save_every: float = field(default=300.0, metadata=real(0, help="seconds between saves inside an epoch"))
    keep_epochs: tuple[int, ...] = field(
        default=(),
        metadata=added(wholes(0, help="epochs whose networks are kept too, like 0,1,5; 0: before the first step")),
    )
    seed: int = field(default=0, metadata=whole(0, help="of initial weights, order, augmentation and attacks"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr == 0:
            raise NetprobeError("Recipe.lr must be above 0: nothing would be learnt")
        if self.schedule == "cyclic" and not 0 < self.peak < 1:
            raise NetprobeError(f"Recipe.peak={self.peak:g} must be between 0 and 1: the rate rises and falls")
        if self.factors is not None and (self.schedule != "step" or len(self.factors) != len(self.milestones)):
            raise NetprobeError(
                f"Recipe.factors={','.join(f'{one:g}' for one in self.factors)} must be one number for each of the "
                f"{len(self.milestones)} milestones, with schedule='step', not {self.schedule!r}"
            )
        if self.cycles and (self.schedule not in ("cyclic", "step") or self.cycles[-1] >= self.epochs):
            raise NetprobeError(
                f"Recipe.cycles={','.join(map(str, self.cycles))} must be epochs below {self.epochs}, with "
                f"schedule='cyclic' or 'step', not {self.schedule!r}"
            )
        if self.keep_epochs and self.keep_epochs[-1] > self.epochs:
            raise NetprobeError(
                f"Recipe.keep_epochs={','.join(map(str, self.keep_epochs))} must be at most {self.epochs}, the epochs "
                "that there are"
            )

    def with_settings(self, **settings: Any) -> Recipe:
        """A copy with some settings changed; an unknown one is an error."""
        refuse_unknown(Recipe, settings, "a recipe")
        return dataclasses.replace(self, **settings)


RESNET = Recipe(augment="crop-flip")
VGG = Recipe(
    epochs=100, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="step", milestones=(50, 75), augment="crop-flip"
)
CYCLIC = Recipe(epochs=100, batch_size=64, lr=0.05, weight_decay=5e-4, schedule="cyclic", augment="crop-flip")
SHALLOW = Recipe(
    **{"epochs": 1000, "batch_size": 1000, "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "step"},
    **{"milestones": (30, 90, 120, 160), "factors": (0.5, 0.2, 0.1, 0.01)},
)
NAMED = {"resnet18": RESNET, "vgg16": VGG}
"""Of networks that a work trained in one way, whatever the defense."""
GREY = Recipe(epochs=60, batch_size=64, optimizer="adam", lr=1e-3, weight_decay=0.0, schedule="step", milestones=(50,))
QUICK = Recipe(epochs=20, lr=0.1, weight_decay=5e-4, schedule="cyclic", peak=0.2, validation=0.1)

PRESETS = ("paper", "quick")


def preset(
    name: str,
    defense: Defense,
    architecture: str,
    shape: tuple[int, ...],
    regularisers: Iterable[Regulariser] = (),
    **changed: Any,
) -> Recipe:
    """The recipe called `name` for this defense, network and input shape, with single settings `changed`.

    paper   what the work used with the defense or a regulariser (`published`), where it had a recipe of its own; else
            Adam with the steps of arXiv 2405.00679 for `shallow`, Adam for grey digits and VGG-16 and SGD with steps
            for ResNet-18 (Bakiskan 2022, sections 4.1 and 3.1), and for any other network the cyclic rate of its
            chapter 4.2
    quick   20 epochs: minutes on two cores with small images; not meant to reach published numbers

    A defense whose stages each have a cycle of the rate (`Defense.cycled`) gets those.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    if name == "quick":
        recipe = QUICK.with_settings(augment="crop-flip") if in_color(shape) else QUICK
    else:
        works = (one.published(architecture, shape) for one in (defense, *regularisers))
        recipe = next(filter(None, works), None) or _of_network(architecture, shape)
    recipe = recipe.with_settings(**changed)
    if defense.cycled and recipe.schedule == "cyclic" and "cycles" not in changed:
        return recipe.with_settings(cycles=defense.stages(recipe.epochs)[1:])
    return recipe


def _of_network(architecture: str, shape: tuple[int, ...]) -> Recipe:
    if architecture == "shallow":
        return SHALLOW
    if not in_color(shape):
        return GREY
    return NAMED.get(architecture, CYCLIC)


def in_color(shape: tuple[int, ...]) -> bool:
    """Whether inputs of that shape are images in colour."""
    return len(shape) == 3 and shape[0] == 3
