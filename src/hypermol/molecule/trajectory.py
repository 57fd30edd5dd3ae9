"""Trajectories f(tau) of rigid parts (eq. 27 and beyond): where a part is in each state.

A trajectory carries a density U to `V(r, tau) = U(Q(tau)^T (r - t(tau)))`, so that its transform
is `V-hat(k, tau) = exp(-2 pi i k.t) U-hat(Q^T k)`. Its parameters are part of theta, have a
Gaussian prior, and get gradients; what is given rather than learned has no prior width.
"""

import abc
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax.numpy as jnp
import numpy as np
from jax import Array
from typing_extensions import override

from hypermol.molecule.state_basis import StateBasis
from hypermol.space.normal import Normal
from hypermol.space.rotation import rotation_from_vector
from hypermol.space.state_space import Circle, Point, StateSpace

Vector = tuple[float, float, float]


class Frame(NamedTuple):
    """Rotation Q [3, 3] and translation t [3] in Angstrom."""

    rotation: Array
    translation: Array


class Trajectory(abc.ABC):
    """A rigid motion that is a function of the state."""

    @property
    @abc.abstractmethod
    def space(self) -> StateSpace:
        """The states it is a function of."""

    @abc.abstractmethod
    def init(self) -> Any:
        """Parameters as given: any pytree of arrays, empty if nothing is learned."""

    @abc.abstractmethod
    def log_prior(self, parameters: Any) -> Array:
        """log density of the parameters up to a constant."""

    @abc.abstractmethod
    def frame(self, parameters: Any, tau: Array) -> Frame:
        """Where the part is at the state tau [dim]."""


@final
@dataclass(frozen=True)
class Still(Trajectory):
    """A part that stays where it is."""

    space = Point()

    @override
    def init(self) -> Any:
        return ()

    @override
    def log_prior(self, parameters: Any) -> Array:
        return jnp.zeros(())

    @override
    def frame(self, parameters: Any, tau: Array) -> Frame:
        return Frame(jnp.eye(3), jnp.zeros(3))


def _normal(values: Array) -> Array:
    return -0.5 * jnp.sum(values**2)


def _varying(basis: StateBasis, tau: Array) -> Array:
    """The basis without its constant, zero at the middle state, [n_terms - 1]."""
    middle = jnp.full(basis.space.dim, 0.5)
    return basis(tau)[1:] - basis(middle)[1:]


@final
@dataclass(frozen=True)
class Translation(Trajectory):
    """A path t(tau) = sum_q P_q(tau) d_q (eq. 27); at rest in the middle state.

    Attributes:
        basis: of the path; two Chebyshev terms make the affine path of eq. 27.
        scale_angstrom: prior standard deviation of each component of each d_q; parameters are in
            these.
        start_angstrom: (x, y, z) of the first d, the path's direction before anything is learned.
    """

    basis: StateBasis
    scale_angstrom: float = 10.0
    start_angstrom: Vector = (0.0, 0.0, 0.0)

    @override
    @property
    def space(self) -> StateSpace:
        return self.basis.space

    @override
    def init(self) -> Array:
        """[n_terms - 1, 3]: `start_angstrom`, then zeros, in standard deviations."""
        path = np.zeros((self.basis.n_terms - 1, 3), np.float32)
        path[0] = self.start_angstrom
        return jnp.asarray(path / self.scale_angstrom)

    @override
    def log_prior(self, parameters: Array) -> Array:
        return _normal(parameters)

    @override
    def frame(self, parameters: Array, tau: Array) -> Frame:
        return Frame(jnp.eye(3), self.scale_angstrom * _varying(self.basis, tau) @ parameters)


class HingeParameters(NamedTuple):
    """What a hinge learns, each in prior standard deviations from what was given.

    Attributes:
        axis: [2] tilt of the axis about two directions across it.
        pivot: [2] displacement of the axis along the same two directions.
        angle: [n_terms - 1] coefficients of the angle.
    """

    axis: Array
    pivot: Array
    angle: Array


@final
@dataclass(frozen=True)
class Hinge(Trajectory):
    """A rotation by angle(tau) about an axis through a pivot; at rest in the middle state.

    On a circle the part goes round `turns` times while the state does. The given axis and pivot
    are the prior's centre; a width of zero holds them.

    Attributes:
        basis: of the angle.
        pivot_angstrom: (x, y, z) of a point of the axis.
        axis: its direction, of any length.
        turns: whole turns per unit of a circular state.
        angle_scale_rad: prior standard deviation of the angle's coefficients.
        axis_scale_rad: prior standard deviation of the axis' tilt.
        pivot_scale_angstrom: prior standard deviation of the pivot.
        start_rad: first coefficient of the angle before anything is learned.
    """

    basis: StateBasis
    pivot_angstrom: Vector
    axis: Vector
    turns: float = 0.0
    angle_scale_rad: float = 0.5
    axis_scale_rad: float = 0.0
    pivot_scale_angstrom: float = 0.0
    start_rad: float = 0.0

    def __post_init__(self) -> None:
        if not np.linalg.norm(self.axis) > 0.0:
            raise ValueError(f"axis {self.axis} of a hinge has no direction: give another vector")
        if self.turns and not isinstance(self.basis.space, Circle):
            raise ValueError(
                f"turns = {self.turns} needs a state on a circle: use a fourier basis, or 0"
            )

    @override
    @property
    def space(self) -> StateSpace:
        return self.basis.space

    @property
    def _axes(self) -> np.ndarray:
        """[3, 3]: two directions across the axis, then the axis."""
        along = np.asarray(self.axis, float) / np.linalg.norm(self.axis)
        across = np.eye(3)[np.argmin(np.abs(along))]
        first = np.cross(along, across)
        first /= np.linalg.norm(first)
        return np.stack([first, np.cross(along, first), along])

    @override
    def init(self) -> HingeParameters:
        angle = np.zeros(self.basis.n_terms - 1, np.float32)
        if len(angle):
            angle[0] = self.start_rad / self.angle_scale_rad
        return HingeParameters(jnp.zeros(2), jnp.zeros(2), jnp.asarray(angle))

    @override
    def log_prior(self, parameters: HingeParameters) -> Array:
        """Standard normal, for parameters are in standard deviations."""
        return sum((_normal(value) for value in parameters), jnp.zeros(()))

    @override
    def frame(self, parameters: HingeParameters, tau: Array) -> Frame:
        axes = jnp.asarray(self._axes, jnp.float32)
        tilt = self.axis_scale_rad * parameters.axis @ axes[:2]
        axis = rotation_from_vector(tilt) @ axes[2]
        pivot = jnp.asarray(self.pivot_angstrom, jnp.float32)
        pivot = pivot + self.pivot_scale_angstrom * parameters.pivot @ axes[:2]
        angle = self.angle_scale_rad * _varying(self.basis, tau) @ parameters.angle
        if self.turns:
            angle = angle + 2.0 * jnp.pi * self.turns * (tau[0] - 0.5)
        rotation = rotation_from_vector(angle * axis)
        return Frame(rotation, pivot - rotation @ pivot)


@final
@dataclass(frozen=True)
class RigidBody(Trajectory):
    """Every particle's own rigid motion about the consensus (sec. 6.3): multi-body refinement.

    The state is the motion itself: three rotation components and three translations, in prior
    standard deviations.

    Attributes:
        name: of the body; its knobs are name_rotation_x .. name_shift_z.
        centre_angstrom: (x, y, z) the body turns about.
        rotation_sd_rad: of each component of the rotation vector.
        shift_sd_angstrom: of each component of the translation.
    """

    name: str
    centre_angstrom: Vector
    rotation_sd_rad: float
    shift_sd_angstrom: float

    @override
    @property
    def space(self) -> Normal:
        """Six normal states."""
        kinds = [f"{kind}_{axis}" for kind in ("rotation", "shift") for axis in "xyz"]
        return Normal(tuple(f"{self.name}_{kind}" for kind in kinds))

    @override
    def init(self) -> Any:
        return ()

    @override
    def log_prior(self, parameters: Any) -> Array:
        """Zero: the states have their own prior."""
        return jnp.zeros(())

    @override
    def frame(self, parameters: Any, tau: Array) -> Frame:
        """Turned about the centre, then moved."""
        centre = jnp.asarray(self.centre_angstrom, jnp.float32)
        rotation = rotation_from_vector(self.rotation_sd_rad * tau[:3])
        return Frame(rotation, centre - rotation @ centre + self.shift_sd_angstrom * tau[3:])
