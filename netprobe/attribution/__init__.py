"""Where networks look.

gradcam.py       Grad-CAM, signed, with its stability under perturbation
feature_maps.py  which tensors of a network are maps, of tokens too
redrawn.py       the control: the same network with its last weights drawn anew
"""
