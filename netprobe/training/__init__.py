"""Training: one loop for every defense."""

from netprobe.training.loop import TrainSettings, fit

__all__ = ["TrainSettings", "fit"]
