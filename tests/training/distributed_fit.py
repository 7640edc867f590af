"""Run by torchrun, and once without: train, and save the last weights (a script of test_distributed)."""

import sys

import torch

from netprobe import data
from netprobe.processes import leave, processes
from netprobe.training import fit

torch.set_num_threads(1)
defense, path = sys.argv[1:]
images = data.load("digits", "train", limit=201)  # 201 = 3 * 64 + 9: the processes' parts of the last batch differ
trained = fit(defense, "digits_cnn", images, "quick", epochs=2, batch_size=64, lr=0.02, validation=0.0, progress=False)
if processes().leads:
    torch.save(trained.last.state_dict(), path)
leave()
