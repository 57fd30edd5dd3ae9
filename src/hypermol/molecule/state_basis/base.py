"""What a basis P_q(tau) on a state space says of itself (eq. 20-21)."""

import abc

import numpy as np
from jax import Array

from hypermol.space.state_space import StateSpace

#: Nodes a basis is compared with another at, where no rule for the pair is known.
_NODES = 4096


class StateBasis(abc.ABC):
    """Functions P_q on a state space, ordered by frequency.

    Most bases begin with P_0 = 1 and are orthogonal to it under the base measure; the first map
    is then the mean molecule. Others (hats, one class a term) spread a constant over all terms
    and say so in `constant_weights` and `mean_weights`: nothing may take term 0 for the mean.
    """

    @property
    @abc.abstractmethod
    def space(self) -> StateSpace:
        """The states the functions live on."""

    @property
    @abc.abstractmethod
    def n_terms(self) -> int:
        """Number of functions, the constant included."""

    @property
    @abc.abstractmethod
    def frequencies(self) -> np.ndarray:
        """[n_terms] state frequency of each function, for priors that fall with it."""

    @abc.abstractmethod
    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms] at states [..., dim]."""

    @property
    def constant_weights(self) -> np.ndarray:
        """[n_terms] c with sum_q c_q P_q(tau) = 1 at every state; zeros if there is no such c."""
        return np.eye(1, self.n_terms)[0]

    @property
    def mean_weights(self) -> np.ndarray:
        """[n_terms] means of the P_q over the base measure: the mean density is their sum."""
        return np.eye(1, self.n_terms)[0]

    def alike(self, other: "StateBasis") -> "StateBasis":
        """Another basis, with the constant left out if this one leaves it out."""
        return other

    def from_mean(self, mean: np.ndarray) -> np.ndarray:
        """Coefficients [n_terms, ...] of the density that is `mean` [...] in every state."""
        return np.multiply.outer(self.constant_weights, mean)

    def mean_of(self, coefficients: np.ndarray | Array) -> np.ndarray:
        """Mean density [...] over the base measure, of coefficients [n_terms, ...]."""
        return np.tensordot(self.mean_weights, np.asarray(coefficients), axes=1)

    def coefficients_of(self, source: "StateBasis") -> np.ndarray:
        """Another basis' functions on the same space in terms of this one's.

        Bases of one family keep the terms they share, in order; any other pair is matched by
        least squares over states.

        Returns:
            [n_terms, source.n_terms]: P_r of the source is about sum_q of [q, r] P_q.
        """
        if type(source) is type(self):
            return np.eye(self.n_terms, source.n_terms)
        nodes = self.space.nodes(_NODES)
        ours, theirs = (np.asarray(basis(nodes), np.float64) for basis in (self, source))
        return np.linalg.lstsq(ours, theirs, rcond=1e-6)[0]
