"""Tensor products of state bases: a molecule with several knobs."""

from dataclasses import dataclass
from functools import cached_property
from typing import final

import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.molecule.state_basis.base import StateBasis
from hypermol.space.product import Product


@final
@dataclass(frozen=True)
class ProductBasis(StateBasis):
    """P_q(tau) = the product over the factors of P_{q_i}(tau_i), a term for each (q_1, q_2, ...).

    Terms are sorted by total frequency, the sum of the factors'. Hats and classes have frequency
    zero, so a truncation keeps all of theirs and cuts the other factors' terms.

    Attributes:
        factors: bases on spaces whose knobs have different names.
        max_frequency: keep terms up to this total frequency; None keeps all.
    """

    factors: tuple[StateBasis, ...]
    max_frequency: float | None = None

    @override
    @cached_property
    def space(self) -> Product:
        """The factors' spaces, side by side."""
        return Product(tuple(factor.space for factor in self.factors))

    @cached_property
    def terms(self) -> np.ndarray:
        """int [n_terms, n_factors]: which term of each factor makes up a term."""
        counts = [factor.n_terms for factor in self.factors]
        every = np.indices(counts).reshape(len(counts), -1).T
        total = self._total(every)
        if self.max_frequency is not None:
            kept = total <= self.max_frequency + 1e-9
            every, total = every[kept], total[kept]
        if not len(every):
            raise ValueError(
                f"max_frequency is {self.max_frequency} in a ProductBasis and keeps no term: "
                "give 0 or more"
            )
        return every[np.argsort(total, kind="stable")]

    def _total(self, terms: np.ndarray) -> np.ndarray:
        """Summed frequency [n] of terms [n, n_factors]."""
        parts = [f.frequencies[terms[:, i]] for i, f in enumerate(self.factors)]
        return np.sum(parts, axis=0)

    @override
    @property
    def n_terms(self) -> int:
        """Product of the factors' numbers of terms, less what is cut."""
        return len(self.terms)

    @override
    @property
    def frequencies(self) -> np.ndarray:
        """[n_terms] sums of the factors' frequencies."""
        return self._total(self.terms)

    def __call__(self, tau: Array) -> Array:
        """Values [..., n_terms]."""
        values = jnp.ones((*tau.shape[:-1], self.n_terms), tau.dtype)
        start = 0
        for column, factor in zip(self.terms.T, self.factors, strict=True):
            end = start + factor.space.dim
            values = values * factor(tau[..., start:end])[..., column]
            start = end
        return values

    @override
    @property
    def constant_weights(self) -> np.ndarray:
        """[n_terms] products of the factors'."""
        return self._multiply([factor.constant_weights for factor in self.factors])

    @override
    @property
    def mean_weights(self) -> np.ndarray:
        """[n_terms] products of the factors': their states are independent."""
        return self._multiply([factor.mean_weights for factor in self.factors])

    def _multiply(self, weights: list[np.ndarray]) -> np.ndarray:
        columns = zip(weights, self.terms.T, strict=True)
        return np.prod([values[column] for values, column in columns], axis=0)

    @override
    def coefficients_of(self, source: StateBasis) -> np.ndarray:
        """Factor by factor where the source is a product of as many; by least squares otherwise."""
        if not isinstance(source, ProductBasis) or len(source.factors) != len(self.factors):
            return super().coefficients_of(source)
        matrix = np.ones((self.n_terms, source.n_terms))
        for i, (ours, theirs) in enumerate(zip(self.factors, source.factors, strict=True)):
            matrix *= ours.coefficients_of(theirs)[np.ix_(self.terms[:, i], source.terms[:, i])]
        return matrix
