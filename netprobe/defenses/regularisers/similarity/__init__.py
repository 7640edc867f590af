"""The similarity regulariser: representations are made as similar as the images are, or as a matrix says.

regulariser.py   its settings
penalty.py       the term: similarities of pairs at several sites, against their targets
stages.py        which sites those are by default
images.py        the images that pairs are drawn from
targets.py       a matrix of the user's own for them
pair_stream.py   pairs in shuffled order, without a list of them
shuffled.py      a permutation of any length that takes no memory
agreement.py     what an epoch tells of similarities and targets
"""
