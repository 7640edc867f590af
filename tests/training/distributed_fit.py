"""Run by torchrun, and once without: train, and save the last weights (a script of test_distributed)."""

import sys

import torch

from netprobe import data
from netprobe.processes import leave, processes
from netprobe.training import fit

torch.set_num_threads(1)
defense, path, *regularise = sys.argv[1:]
images = data.load("digits", "train", limit=201)  # 201 = 3 * 64 + 9: the processes' parts of the last batch differ
recipe = {"epochs": 2, "batch_size": 64, "lr": 0.02, "validation": 0.0}
trained = fit(defense, "digits_cnn", images, "quick", regularise=regularise, progress=False, **recipe)
if processes().leads:
    terms = {name: torch.tensor(trained.history[name].values) for name in ("loss", "accuracy")}
    torch.save(trained.last.state_dict() | terms, path)
leave()
