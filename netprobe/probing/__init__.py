"""One pass of clean and perturbed images through a network, and what is kept of it.

probe.py        the pass from outside: what is asked for, resumed, merged
passes.py       the pass itself
partial.py      what it leaves, which goes to a file and joins with that of other images
observables.py  what is accumulated inside the hooks
kernels.py      what links every image with every other, pass after pass
streaming.py    sums that update and merge exactly
reductions.py   norms and sparsity of a batch; fused.py the same in one reading of memory
"""
