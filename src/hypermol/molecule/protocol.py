"""What a molecule is (sec. 3.6): four names that a user writes, and faster paths it may offer."""

from typing import Any, Protocol, runtime_checkable

from jax import Array

from hypermol.space.state_space import StateSpace

#: Coefficients of a molecule: any pytree of arrays.
Theta = Any


class Molecule(Protocol):
    """V[theta](r, tau): a density for every state, known through its Fourier transform."""

    @property
    def state_space(self) -> StateSpace:
        """Where tau lives."""
        ...

    def init(self, key: Array) -> Theta:
        """First coefficients."""
        ...

    def fourier(self, theta: Theta, k: Array, tau: Array) -> Array:
        """V-hat[theta](k, tau), complex [n], at points k [n, 3] in 1/Angstrom, state tau [dim]."""
        ...

    def log_prior(self, theta: Theta) -> Array:
        """log P(theta) up to a constant."""
        ...


@runtime_checkable
class LinearMolecule(Molecule, Protocol):
    """A molecule whose slice is `weights(tau) . features(prepared, R)` and linear in theta.

    At a fixed direction its images are linear in contrast times weights(tau), so states and
    contrasts are drawn from a small Gram matrix, and theta given the rest is Gaussian.
    """

    @property
    def n_features(self) -> int:
        """F, the number of features."""
        ...

    def prepare(self, theta: Theta) -> Array:
        """Whatever makes slices fast, once per theta. Linear."""
        ...

    def features(self, prepared: Array, rotations: Array, frequencies: Array) -> Array:
        """Slices of the F features, complex [B, F, K], at [K, 2] frequencies in 1/box."""
        ...

    def weights(self, tau: Array) -> Array:
        """Weights [..., F] at states [..., dim]."""
        ...
