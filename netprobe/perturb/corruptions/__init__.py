"""The 19 common corruptions, each a perturbation with a severity from 1 to 5.

Fifteen make up the benchmarks CIFAR-10-C and ImageNet-C (Hendrycks and Dietterich, ICLR 2019), four are extras. Each is
a class in a file of its kind with both tables of constants; `base.Corruption` says which of them an image gets.
"""

from netprobe.perturb.corruptions.base import SEVERITIES, Corruption, Levels
from netprobe.perturb.corruptions.blur import DefocusBlur, GaussianBlur, MotionBlur, ZoomBlur
from netprobe.perturb.corruptions.colour import Brightness, Contrast, Saturate
from netprobe.perturb.corruptions.digital import JPEGCompression, Pixelate
from netprobe.perturb.corruptions.elastic import ElasticTransform
from netprobe.perturb.corruptions.frost import Frost
from netprobe.perturb.corruptions.glass import GlassBlur
from netprobe.perturb.corruptions.noise import AdditiveGaussianNoise, ImpulseNoise, ShotNoise, SpeckleNoise
from netprobe.perturb.corruptions.spatter import Spatter
from netprobe.perturb.corruptions.weather import Fog, Snow

_BENCHMARK = (
    AdditiveGaussianNoise,
    ShotNoise,
    ImpulseNoise,
    DefocusBlur,
    GlassBlur,
    MotionBlur,
    ZoomBlur,
    Snow,
    Frost,
    Fog,
    Brightness,
    Contrast,
    ElasticTransform,
    Pixelate,
    JPEGCompression,
)
_EXTRA = (SpeckleNoise, GaussianBlur, Spatter, Saturate)

BENCHMARK: tuple[str, ...] = tuple(cls.name for cls in _BENCHMARK)
EXTRA: tuple[str, ...] = tuple(cls.name for cls in _EXTRA)
CORRUPTIONS: dict[str, type[Corruption]] = {cls.name: cls for cls in (*_BENCHMARK, *_EXTRA)}

__all__ = ["BENCHMARK", "CORRUPTIONS", "EXTRA", "SEVERITIES", "Corruption", "Levels"]
__all__ += [cls.__name__ for cls in (*_BENCHMARK, *_EXTRA)]
