"""The seam between the posterior and an instrument: what is not molecule, state, prior or noise.

Any instrument that integrates a density along straight rays sees central slices of its transform
(eq. 5). What else it does is, here, a product pixel by pixel of Fourier space,

    image = contrast x transfer x phases(shift) x slice,

and those two factors are all that the posterior and its conditionals ask for.
"""

import abc
from dataclasses import dataclass
from typing import final

from jax import Array
from typing_extensions import override

from hypermol.space.fourier import HalfPlane, shift_phases


class Imaging(abc.ABC):
    """An instrument: how a slice of the density becomes the image that noise is added to.

    Instances are immutable and compare by value: compiled functions close over them.
    """

    @abc.abstractmethod
    def transfer(self, ctf: Array, plane: HalfPlane) -> Array:
        """Real multiplier of the Fourier pixels of each image.

        Args:
            ctf: what is known of each image's optics, `ImageBlocks.ctf`, [..., C].
            plane: the K Fourier pixels.

        Returns:
            [..., K], image units per unit of a slice.
        """

    @abc.abstractmethod
    def phases(self, plane: HalfPlane, shifts_px: Array) -> Array:
        """Multiplier that moves an image by shifts [..., 2] (x, y) in pixels.

        Returns:
            [..., K] of absolute value 1, or [..., 1] where nothing moves.
        """


@final
@dataclass(frozen=True)
class Microscope(Imaging):
    """Cryo-EM in the weak-phase approximation (eq. 6): the CTF, and shifts in the image plane."""

    @override
    def transfer(self, ctf: Array, plane: HalfPlane) -> Array:
        """The CTFs themselves, [..., K]."""
        del plane
        return ctf

    @override
    def phases(self, plane: HalfPlane, shifts_px: Array) -> Array:
        """exp(-2 pi i k.s), complex [..., K]."""
        return shift_phases(plane, shifts_px)
