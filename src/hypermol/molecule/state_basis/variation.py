"""A state basis without its constant: what differs between states, and nothing else."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.molecule.state_basis.base import StateBasis
from hypermol.space.state_space import StateSpace


@final
@dataclass(frozen=True)
class Variation(StateBasis):
    """The terms of another basis but the constant one.

    For a part whose region a rigid part covers: a density that is the same in every state could
    lie in either, and images cannot say in which. It lies in the rigid part.

    Attributes:
        whole: the basis; one of its terms alone is the constant.
    """

    whole: StateBasis

    def __post_init__(self) -> None:
        constant = np.count_nonzero(self.whole.constant_weights)
        if constant != 1:
            raise ValueError(
                f"a {type(self.whole).__name__.lower()} basis has no constant term to leave out "
                f"({constant} terms make it): take haar for classes, cosine or chebyshev for an "
                "interval"
            )
        if self.whole.n_terms < 2:
            raise ValueError("a basis of the constant alone has no term left without it")

    @cached_property
    def _kept(self) -> np.ndarray:
        return np.flatnonzero(self.whole.constant_weights == 0.0)

    @override
    @property
    def space(self) -> StateSpace:
        return self.whole.space

    @override
    @property
    def n_terms(self) -> int:
        """One less than the whole basis has."""
        return len(self._kept)

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] of the terms that are left."""
        return self.whole.frequencies[self._kept]

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]."""
        return self.whole(tau)[..., self._kept]

    @override
    @property
    def constant_weights(self) -> np.ndarray:
        """[n_terms] zeros: no constant can be made of these terms."""
        return np.zeros(self.n_terms)

    @override
    @property
    def mean_weights(self) -> np.ndarray:
        """[n_terms] the whole basis' (a polynomial may have a mean)."""
        return self.whole.mean_weights[self._kept]

    @override
    def alike(self, other: StateBasis) -> StateBasis:
        """Another basis without its constant."""
        return Variation(other)

    @override
    def coefficients_of(self, source: StateBasis) -> np.ndarray:
        """From the whole bases where the source has no constant either."""
        if not isinstance(source, Variation):
            return super().coefficients_of(source)
        matrix = self.whole.coefficients_of(source.whole)
        return matrix[np.ix_(self._kept, source._kept)]
