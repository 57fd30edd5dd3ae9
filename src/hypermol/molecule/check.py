"""Does a molecule keep the protocol? The test that users run on their own models.

`check_model(model)` probes the four names of sec. 3.6 and whatever faster paths are offered, and
reports each finding as a sentence that says what is wrong and what to write instead.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from hypermol.molecule.check_probe import N_POINTS, Probe
from hypermol.molecule.protocol import LinearMolecule
from hypermol.space.rotation import matrix_from_quaternion, rotation_from_vector

_NAMES = ("state_space", "init", "fourier", "log_prior")
#: Float32 sums of a few thousand terms agree to this part of their rms value.
_TOLERANCE = 2e-3
#: Slices by interpolation and densities on grids agree to this part with the direct transform.
_GRID_TOLERANCE = 0.05
_GRID_SIDE = 40


class Finding(NamedTuple):
    """One thing that was looked at: its name, whether it is right, and a sentence."""

    name: str
    passed: bool
    message: str


@final
@dataclass(frozen=True)
class Report:
    """What `check_model` found."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(finding.passed for finding in self.findings)

    def __str__(self) -> str:
        marks = ("wrong", "right")
        return "\n".join(f"{marks[f.passed]}  {f.name}: {f.message}" for f in self.findings)


Check = Callable[[Probe], Iterator[Finding]]


def check_model(
    model: Any,
    *,
    radius_angstrom: float = 150.0,
    resolution_angstrom: float = 25.0,
    seed: int = 0,
) -> Report:
    """Test a molecule against the protocol of `molecule.protocol`.

    Hermitian symmetry `V-hat(-k) = conj V-hat(k)`, shapes and types, jit and vmap, finite
    gradients in theta, tau and R (through `k = R' k2`), the prior, agreement of the paths it
    offers beside `fourier`; whether it is linear in theta is measured and reported.

    Args:
        model: the molecule.
        radius_angstrom: a ball that holds its density.
        resolution_angstrom: finest detail that is probed.
        seed: of the random coefficients, states and frequencies.

    Returns:
        Findings; `report.ok` if all is right, `print(report)` to read them.
    """
    missing = [name for name in _NAMES if not hasattr(model, name)]
    if missing:
        found = Finding("names", False, f"the model has no {', '.join(missing)}: write them")
        return Report((found,))
    probe = Probe(model, radius_angstrom, resolution_angstrom, jax.random.key(seed))
    findings = [Finding("names", True, "all four are there")]
    findings += _run("state_space", _check_space, probe)
    findings += _run("init", _check_init, probe)
    if not all(finding.passed for finding in findings):
        return Report(tuple(findings))  # nothing can be evaluated
    findings += _run("fourier", _check_values, probe)
    if all(finding.passed for finding in findings):
        for name, check in _FURTHER.items():
            findings += _run(name, check, probe)
    return Report(tuple(findings))


def _run(name: str, check: Check, probe: Probe) -> list[Finding]:
    """The check's findings; an exception of the model's code is one too."""
    found: list[Finding] = []
    try:
        found.extend(check(probe))
    except Exception as error:  # whatever a user's code may raise
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        found.append(Finding(name, False, f"evaluating it fails with {text}"))
    return found


def _check_space(probe: Probe) -> Iterator[Finding]:
    space = probe.model.state_space
    if len(space.names) != space.dim:
        text = f"it has {len(space.names)} names for {space.dim} variables: name each knob"
        yield Finding("state_space", False, text)
        return
    nodes = space.nodes(5)
    if nodes.shape[1:] != (space.dim,) or not np.allclose(space.wrap(nodes), nodes, atol=1e-5):
        text = "wrap moves the space's own nodes: wrap must leave states inside where they are"
        yield Finding("state_space", False, text)
        return
    yield Finding("state_space", True, f"{space.dim} variable(s): {', '.join(space.names)}")


def _check_init(probe: Probe) -> Iterator[Finding]:
    leaves = jax.tree.leaves(probe.model.init(probe.key))
    kinds = [jnp.result_type(leaf) for leaf in leaves]
    if not all(jnp.issubdtype(kind, jnp.floating) for kind in kinds):
        wrong = sorted({str(kind) for kind in kinds if not jnp.issubdtype(kind, jnp.floating)})
        text = f"init gives {', '.join(wrong)}: give a pytree of real floating-point arrays only"
    elif not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves):
        text = "init gives values that are not finite: give a start inside the prior"
    else:
        count = sum(int(jnp.size(leaf)) for leaf in leaves)
        yield Finding("init", True, f"{count} coefficients in {len(leaves)} arrays")
        return
    yield Finding("init", False, text)


def _check_values(probe: Probe) -> Iterator[Finding]:
    """Shape, type and finiteness of `fourier`; the other checks rest on it."""
    tau = probe.states[0]
    values = probe.model.fourier(probe.theta, probe.k, tau)
    if values.shape != (N_POINTS,):
        text = (
            f"fourier gives shape {values.shape} for k [{N_POINTS}, 3]: return [{N_POINTS}], "
            "one value a point, for one state"
        )
    elif not jnp.iscomplexobj(values):
        text = f"fourier gives {values.dtype}: return complex values (jax.lax.complex(re, im))"
    elif not bool(jnp.all(jnp.isfinite(values))):
        text = "fourier gives values that are not finite: guard divisions and roots, also at k = 0"
    elif float(jnp.max(jnp.abs(values))) == 0.0:
        text = "fourier is zero at random theta: it must depend on theta"
    else:
        yield Finding("fourier", True, f"complex [{N_POINTS}], finite")
        return
    yield Finding("fourier", False, text)


def _check_hermitian(probe: Probe) -> Iterator[Finding]:
    worst = 0.0
    for tau in probe.states:
        values = probe.fourier(probe.theta, probe.k, tau)
        mirrored = probe.fourier(probe.theta, -probe.k, tau)
        worst = max(worst, probe.relative(mirrored, jnp.conj(values)))
    passed = worst < _TOLERANCE
    text = f"V-hat(-k) and conj V-hat(k) differ by {worst:.1e} of the rms value"
    if not passed:
        text += (
            ": the density would not be real; return (f(k) + conj f(-k)) / 2, and check the sign "
            "of exp(-2 pi i k.r)"
        )
    yield Finding("hermitian", passed, text)


def _check_jit(probe: Probe) -> Iterator[Finding]:
    fourier = probe.model.fourier
    looped = jnp.stack([probe.fourier(probe.theta, probe.k, tau) for tau in probe.states])
    difference = probe.relative(looped[0], fourier(probe.theta, probe.k, probe.states[0]))
    yield _agreement("jit", difference, "jax.jit(fourier)", "avoid Python state and randomness")
    k = jnp.broadcast_to(probe.k, (len(probe.states), *probe.k.shape))
    mapped = jax.jit(jax.vmap(fourier, in_axes=(None, 0, 0)))(probe.theta, k, probe.states)
    difference = probe.relative(mapped, looped)
    yield _agreement("vmap", difference, "jax.vmap(fourier)", "sum over the axes of one state only")


def _agreement(name: str, difference: float, what: str, cure: str) -> Finding:
    passed = difference < _TOLERANCE
    text = f"{what} differs from plain calls by {difference:.1e} of the rms value"
    return Finding(name, passed, text if passed else f"{text}: {cure}")


def _finite(tree: Any) -> bool:
    return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(tree))


def _check_gradients(probe: Probe) -> Iterator[Finding]:
    """Gradients of a random real function of the values, also at k = 0 and at the space's edge."""
    probes = jax.random.normal(jax.random.fold_in(probe.key, 3), (2, N_POINTS))
    plane = probe.k[:, :2]

    def value(theta: Any, tau: Array, turn: Array) -> Array:
        k = plane @ rotation_from_vector(turn)[:2]
        values = probe.fourier(theta, k, tau)
        return jnp.sum(probes[0] * values.real + probes[1] * values.imag)

    turn = jnp.array([0.3, -0.2, 0.5])
    gradient = jax.jit(jax.grad(value, argnums=(0, 1, 2)))
    found = [gradient(probe.theta, tau, turn) for tau in probe.states]
    cures = (
        "write it with jax.numpy functions of theta that are smooth at the values init gives",
        "guard roots and quotients at the ends of the state space",
        "guard roots at k = 0: sqrt(|k|^2) has no gradient there, use |k|^2",
    )
    for i, (name, cure) in enumerate(zip(("theta", "tau", "R"), cures, strict=True)):
        passed = all(_finite(gradient[i]) for gradient in found)
        text = f"the gradient in {name} is {'' if passed else 'not '}finite"
        yield Finding(f"gradient in {name}", passed, text if passed else f"{text}: {cure}")
    size = sum(float(jnp.sum(jnp.abs(leaf))) for leaf in jax.tree.leaves([g[0] for g in found]))
    if size == 0.0:
        text = "the gradient in theta is zero: leave out rounding and stop_gradient"
        yield Finding("gradient in theta", False, text)


def _check_prior(probe: Probe) -> Iterator[Finding]:
    value = jnp.asarray(probe.model.log_prior(probe.theta))
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        text = f"log_prior gives {value.dtype} of shape {value.shape}: return one real number"
    elif not _finite(value):
        text = "log_prior is not finite near init: give a proper density, up to a constant"
    elif not _finite(jax.grad(probe.model.log_prior)(probe.theta)):
        text = "log_prior has a gradient that is not finite near init: write it smoothly in theta"
    else:
        yield Finding("log_prior", True, "finite, with a finite gradient")
        return
    yield Finding("log_prior", False, text)


def _check_density(probe: Probe) -> Iterator[Finding]:
    """The density's Fourier sum over a grid, against `fourier`."""
    density = getattr(probe.model, "density", None)
    if density is None:
        return
    theta, tau = probe.smooth_theta, probe.states[0]
    wanted = probe.fourier(theta, probe.k, tau)
    if len(inspect.signature(density).parameters) == 2:
        values = density(theta, tau)
        step = getattr(probe.model, "box_angstrom", 2.0 * probe.radius_angstrom) / len(values)
    else:
        side = _GRID_SIDE
        step = 2.0 * probe.radius_angstrom / side
        axis = (jnp.arange(side) - side // 2) * step
        z, y, x = jnp.meshgrid(axis, axis, axis, indexing="ij")
        values = jax.jit(density)(theta, tau, jnp.stack([x, y, z], -1)) * step**3
    axis = (jnp.arange(len(values)) - len(values) // 2) * step
    waves = [jnp.exp(-2j * jnp.pi * probe.k[:, d, None] * axis) for d in range(3)]
    found = jnp.einsum("zyx,kx,ky,kz->k", values, *waves, optimize=True)
    if len(inspect.signature(density).parameters) == 2:
        # on a grid of its own the density's unit is free: a positive factor is allowed
        factor = jnp.real(jnp.vdot(found, wanted)) / jnp.sum(jnp.abs(found) ** 2)
        found = found * jnp.maximum(factor, 0.0)
    difference = probe.relative(found, wanted)
    passed = difference < _GRID_TOLERANCE
    text = f"its Fourier sum differs from fourier by {difference:.1e} of the rms value"
    if not passed:
        text += (
            ": check that both use (x, y, z) order, Angstrom and exp(-2 pi i k.r), and that "
            f"radius_angstrom={probe.radius_angstrom:g} holds the density"
        )
    yield Finding("density", passed, text)


def _check_linearity(probe: Probe) -> Iterator[Finding]:
    """Random affine probe: f(a x + b y) - f(0) against a (f(x) - f(0)) + b (f(y) - f(0))."""
    tau, k = probe.states[0], probe.k
    x, y = probe.theta, probe.other_theta(1)
    zero, mixed = (
        jax.tree.map(lambda p, q, a=a, b=b: a * p + b * q, x, y) for a, b in ((0, 0), (0.7, -1.3))
    )
    at_zero = probe.fourier(zero, k, tau)
    parts = [probe.fourier(theta, k, tau) - at_zero for theta in (x, y, mixed)]
    difference = probe.relative(parts[2], 0.7 * parts[0] - 1.3 * parts[1])
    kind = "not linear"
    if difference < _TOLERANCE:
        offset = float(jnp.max(jnp.abs(at_zero))) / float(jnp.max(jnp.abs(parts[0])))
        kind = "linear" if offset < _TOLERANCE else "affine"
    yield Finding("linear in theta", True, f"measured: {kind} in theta")
    if isinstance(probe.model, LinearMolecule) and kind != "linear":
        text = f"it offers features and weights, but is {kind} in theta: leave these names out"
        yield Finding("features", False, text)


def _rows(tau: Array) -> Array:
    """One state for each of the two rotations."""
    return jnp.tile(tau, (2, 1))


def _check_features(probe: Probe) -> Iterator[Finding]:
    """weights(tau) . features(prepare(theta), R) against `fourier` at k = R' k2."""
    model = probe.model
    if not isinstance(model, LinearMolecule):
        return
    box = getattr(model, "box_angstrom", None)
    if box is None:
        text = "it offers features, but no box_angstrom turns 1/box to 1/Angstrom: name it"
        yield Finding("features", False, text)
        return
    reach = max(int(box / probe.resolution_angstrom), 1)
    axis = np.arange(-reach, reach + 1)
    kx, ky = np.meshgrid(axis[reach:], axis)
    near = (np.hypot(kx, ky) <= reach) & (np.hypot(kx, ky) > 0)
    frequencies = jnp.asarray(np.stack([kx[near], ky[near]], axis=-1), jnp.float32)
    quaternions = jax.random.normal(jax.random.fold_in(probe.key, 4), (2, 4))
    rotations = matrix_from_quaternion(quaternions)
    prepared = model.prepare(probe.theta)
    shape = (2, len(model.feature_terms), len(frequencies))
    features = model.features(prepared, rotations, _rows(probe.states[0]), frequencies)
    if features.shape != shape:
        text = f"features gives shape {features.shape} instead of [B, F, K] = {shape}"
        yield Finding("features", False, text)
        return
    worst = 0.0
    for tau in probe.states:
        features = model.features(prepared, rotations, _rows(tau), frequencies)
        found = jnp.einsum("f,bfk->bk", model.weights(tau), features)
        for slice_found, rotation in zip(found, rotations, strict=True):
            wanted = model.fourier(probe.theta, frequencies @ rotation[:2] / box, tau)
            error = jnp.sqrt(jnp.mean(jnp.abs(slice_found - wanted) ** 2))
            worst = max(worst, float(error / jnp.sqrt(jnp.mean(jnp.abs(wanted) ** 2))))
    passed = worst < _GRID_TOLERANCE
    text = f"weights . features differs from fourier by {worst:.1e} of the rms value"
    if not passed:
        text += ": both must give the same units, at k = frequencies @ R[:2] / box_angstrom"
    yield Finding("features", passed, text)


_FURTHER: dict[str, Check] = {
    "hermitian": _check_hermitian,
    "jit and vmap": _check_jit,
    "gradients": _check_gradients,
    "log_prior": _check_prior,
    "density": _check_density,
    "linear in theta": _check_linearity,
    "features": _check_features,
}
