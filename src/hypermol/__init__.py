"""hypermol: recover the motions of flexible macromolecules from cryo-EM images.

A molecule is one function V(r, tau) of space and state (Lederman, Anden and Singer 2020);
everything unknown is sampled from one Bayesian posterior. What stands here is the public face,
named in `__init__.pyi` and said in docs/api.md; what lies below it may change. A name is loaded
when it is first used, so that a fit does not hold what draws figures.
"""

from importlib.metadata import version

import lazy_loader

__version__ = version("hypermol")
__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*_names, "__version__"])
