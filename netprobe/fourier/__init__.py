"""What perturbations are made of, by spatial frequency.

spectra.py     power spectra of any perturbation
comparison.py  how networks differ by them, and what is gained under corruptions of low and of high frequency
"""
