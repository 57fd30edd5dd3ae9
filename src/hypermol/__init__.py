"""hypermol: recover the motions of flexible macromolecules from cryo-EM images.

A molecule is one function V(r, tau) of space and state (Lederman, Anden and Singer 2020);
everything unknown is sampled from one Bayesian posterior.
"""

__version__ = "0.1.0"
