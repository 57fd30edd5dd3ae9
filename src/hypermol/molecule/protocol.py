"""What a molecule is (sec. 3.6): four names that a user writes, and faster paths it may offer."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
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


class Coefficients(NamedTuple):
    """theta of a linear molecule.

    Attributes:
        maps: the coefficients its densities are linear in, any pytree of arrays; given the rest
            they are Gaussian (sec. 4.1).
        motion: parameters of trajectories (eq. 27), any pytree; empty where there are none.
    """

    maps: Any
    motion: Any = ()


class SlicedMolecule(Molecule, Protocol):
    """What the posterior asks of a molecule: slices, `weights(tau) . features(prepared, R, tau)`.

    At a known view (a direction, with the states that are positions) its images are linear in
    contrast times weights(tau), so that contrasts and the other states are drawn from a small Gram
    matrix. A molecule that only has `fourier` gets all this from `by_fourier`: one feature, whose
    every state is a position.
    """

    @property
    def is_linear(self) -> bool:
        """Whether it is a `LinearMolecule` too: its maps given the rest are Gaussian."""
        ...

    @property
    def is_position(self) -> tuple[bool, ...]:
        """Per state variable: whether features depend on it (tau^position of eq. 26)."""
        ...

    @property
    def frame_is_free(self) -> bool:
        """Whether V(g(tau) r, tau) is in the model for every smooth rigid motion g: then only the
        poses' prior fixes the frame (`moving_frame`)."""
        ...

    @property
    def term_labels(self) -> tuple[tuple[str, int], ...]:
        """Per term of mu's spectrum: its part ("" for the whole) and order in the state basis."""
        ...

    @property
    def term_sizes(self) -> np.ndarray:
        """int [T]: free coefficients of each term; T = 0 where mu has no spectrum of theta."""
        ...

    def prepare(self, theta: Theta) -> Any:
        """Whatever makes slices fast, once per theta. Linear in the maps of a linear molecule."""
        ...

    def features(self, prepared: Any, rotations: Array, states: Array, frequencies: Array) -> Array:
        """Slices of the F features, complex [B, F, K], for rotations [B, 3, 3] and states
        [B, dim], at [K, 2] frequencies in 1/box."""
        ...

    def weights(self, tau: Array) -> Array:
        """Weights [..., F] at states [..., dim]."""
        ...

    def lattice(self, tau: Array, n: int) -> Array:
        """Lattice [T, dim] of the states that act through the weights, `tau` [dim] first; the
        others stay. See `StateSpace.lattice`."""
        ...

    def prior_energy(self, theta: Theta, spectrum: Array) -> Array:
        """theta' K theta, K the Gaussian prior's matrix for precisions `spectrum` [T, n_shells]
        per shell: one number a term, [T]."""
        ...

    def log_prior_beside(self, theta: Theta) -> Array:
        """log density of theta beside that Gaussian, up to a constant: of trajectories, or all."""
        ...

    def shown(self, theta: Theta) -> Array:
        """Densities [G, n, n, n] for display and analysis: V(., tau) = sum of `shown_weights`."""
        ...

    def shown_weights(self, tau: Array) -> Array:
        """Weights [..., G] of `shown` at states [..., dim]."""
        ...

    def mean(self, theta: Theta) -> np.ndarray:
        """Mean density over the states' base measure, [n, n, n]."""
        ...

    def parameters(self, theta: Theta) -> Any:
        """What of theta a posterior sample keeps beside `shown`, a pytree; empty for maps alone."""
        ...

    def first_states(self, key: Array, theta: Theta, states: np.ndarray, source: Any) -> np.ndarray:
        """States [N, dim] to start from, given another level's molecule, theta and states."""
        ...

    def resize(self, theta: Theta, source: Any) -> Theta:
        """theta of another level of the march in this molecule's coefficients."""
        ...


@runtime_checkable
class LinearMolecule(SlicedMolecule, Protocol):
    """A molecule that is linear in its maps, which given the rest are Gaussian (sec. 4.1).

    The maps are made of T terms, the rows of the Gaussian prior's spectrum; a feature is a term
    seen at one place, so that parts with copies (Remark 5) have more features than terms.
    """

    @property
    def feature_terms(self) -> np.ndarray:
        """int [F]: the term of theta that each feature shows."""
        ...

    @property
    def feature_places(self) -> np.ndarray:
        """int [F]: features of one place are seen from the same direction."""
        ...

    @property
    def whole_terms(self) -> np.ndarray:
        """bool [T]: terms that a density at rest takes part in."""
        ...

    @property
    def slice_gain(self) -> np.ndarray:
        """[n_shells, T]: see `SpatialBasis.slice_gain`."""
        ...

    @property
    def power_gain(self) -> np.ndarray:
        """[T]: see `SpatialBasis.power_gain`."""
        ...

    def precision(self, maps: Any, spectrum: Array) -> Any:
        """The prior's matrix, of precision `spectrum` [T, n_shells] per shell, times the maps."""
        ...

    def precision_root(self, key: Array, spectrum: Array) -> Any:
        """A draw of N(0, precision)."""
        ...

    def term_products(self, first: Any, second: Any) -> Array:
        """Inner products of two sets of maps, term by term, [T]."""
        ...

    def shell_power(self, maps: Any) -> Array:
        """Mean |V-hat|^2 per term and shell, [T, n_shells]."""
        ...

    def multiply_shells(self, maps: Any, matrices: Array) -> Any:
        """Mix terms by a symmetric matrix [n_shells, T, T] per shell: preconditioners. Entries
        between terms of different parts are ignored."""
        ...

    @property
    def copies(self) -> np.ndarray:
        """int [T]: places of each term's part that are turned about one centre, so that their
        densities lie on one another; 1 for others."""
        ...

    def averaged(self, maps: Any) -> Any:
        """The mean of every map over those turns: as they are where there is one place. Linear."""
        ...

    @property
    def features_rest(self) -> bool:
        """Whether the densities of all features stay where they are, whatever the state."""
        ...

    def feature_densities(self, maps: Any) -> Array:
        """These densities on the molecule's grid, [F, n, n, n], in units in which an image's
        coefficients are their transform. Linear; only where they rest."""
        ...

    def density(self, theta: Coefficients, tau: Array) -> Array:
        """V(., tau) on the molecule's grid, [n, n, n]."""
        ...
