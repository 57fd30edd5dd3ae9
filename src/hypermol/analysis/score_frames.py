"""Scores of runs whose poses were found from nothing, each state in its own frame.

Where no pose was known, nothing in the images says how a molecule that deforms stands in one state
relative to another: V(g(tau) r, tau) seen from poses R g(tau) gives the same images (sec. 6.2). The
truth's superposition is one choice of g and the run's is another. Here g is told from poses, as a
smooth function of the true states: polynomials (Fourier terms of a circle) of a total degree that
particles left out choose, after the one gauge of all particles.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from hypermol.analysis.gauge import Gauge, align_poses, apply_to_poses, pose_errors
from hypermol.analysis.knobs import Knob
from hypermol.analysis.truth import Truth
from hypermol.space.rotation import angle_between

#: Largest total degree of the frames' polynomials, and particles there must be for every number.
_MAX_DEGREE, _PER_TERM = 8, 20
#: Folds that choose the degree, rounds of fitting what is left, and states the span is taken of.
_FOLDS, _ROUNDS, _SPANNED = 5, 4, 100
#: An image that is so near counts as aligned.
_ALIGNED_DEG = 10.0

Poses = tuple[np.ndarray, np.ndarray]


class Frames(NamedTuple):
    """The gauge of each particle: flip all or none, then turn by [N, 3, 3], then shift by [N, 3].

    Attributes:
        turns: [N, 3, 3] G of each particle's gauge.
        shifts_angstrom: [N, 3] its c.
        flipped: whether the estimate has the opposite hand.
        degree: of the polynomials of the states that they are; 0 for one frame.
    """

    turns: np.ndarray
    shifts_angstrom: np.ndarray
    flipped: bool
    degree: int

    def apply(self, poses: Poses) -> Poses:
        """Rotations [..., N, 3, 3] and shifts [..., N, 2] in the truth's frame."""
        rotations, shifts = apply_to_poses(Gauge(flipped=self.flipped), *poses)
        rotations = rotations @ np.swapaxes(self.turns, -1, -2)
        moved = (rotations @ self.shifts_angstrom[..., None])[..., :2, 0]
        return rotations, shifts - moved

    def errors(self, estimated: Poses, true: Poses) -> tuple[np.ndarray, np.ndarray]:
        """Angles in degrees and distances of shifts, [N] each."""
        return pose_errors(Gauge(), self.apply(estimated), true)

    def gauge(self, particle: int) -> Gauge:
        """One particle's."""
        return Gauge(self.turns[particle], self.shifts_angstrom[particle], self.flipped)

    def take(self, rows: np.ndarray) -> "Frames":
        """Those of the particles `rows`."""
        return self._replace(turns=self.turns[rows], shifts_angstrom=self.shifts_angstrom[rows])

    @property
    def span_deg(self) -> float:
        """The largest angle between the frames of two particles, of a hundred."""
        some = np.linspace(0, len(self.turns) - 1, min(len(self.turns), _SPANNED)).astype(int)
        return float(angle_between(self.turns[some, None], self.turns[some]).max())


def one_frame(gauge: Gauge, n_particles: int) -> Frames:
    """The same gauge for all particles."""
    turns = np.broadcast_to(gauge.rotation, (n_particles, 3, 3))
    shifts = np.broadcast_to(gauge.shift_angstrom, (n_particles, 3))
    return Frames(turns, shifts, bool(gauge.flipped), 0)


def state_frames(estimated: Poses, truth: Truth) -> Frames:
    """A gauge for every state, of the same hand: that of all particles.

    Args:
        estimated: rotations [N, 3, 3] and shifts in Angstrom [N, 2], each in the description that
            is nearest to the truth's.
        truth: of the same particles, with a state.
    """
    true = truth.rotations, truth.shifts_angstrom
    whole = align_poses(estimated, true)
    frames = one_frame(whole, len(truth))
    left = _turns_left(frames, estimated, true)
    near = _near(left)
    degree = _degree(truth, left, near)
    terms = _terms(truth, degree)
    for _ in range(_ROUNDS):
        step = terms @ np.linalg.lstsq(terms[near], left[near], rcond=None)[0]
        turns = Rotation.from_rotvec(step).as_matrix() @ frames.turns
        frames = frames._replace(turns=turns, degree=degree)
        left = _turns_left(frames, estimated, true)
        near = _near(left)
    return frames._replace(shifts_angstrom=_shifts(frames, terms, near, estimated, true))


def _turns_left(frames: Frames, estimated: Poses, true: Poses) -> np.ndarray:
    """[N, 3] rotation vectors e of R_true^T R = exp(e), in radians: what frames must take out."""
    rotations, _ = frames.apply(estimated)
    return Rotation.from_matrix(np.swapaxes(true[0], -1, -2) @ rotations).as_rotvec()


def _near(left: np.ndarray) -> np.ndarray:
    """bool [N]: particles that are placed, as `align_poses` has it."""
    angles = np.linalg.norm(left, axis=1)
    return angles <= 3.0 * np.median(angles) + 1e-9


def _shifts(
    frames: Frames, terms: np.ndarray, near: np.ndarray, estimated: Poses, true: Poses
) -> np.ndarray:
    """[N, 3] c(tau) by least squares: s - s_true = (R c)_xy is linear in its coefficients."""
    unmoved = frames._replace(shifts_angstrom=np.zeros((len(terms), 3)))
    rotations, shifts = unmoved.apply(estimated)
    design = np.einsum("nij,nb->nijb", rotations[near, :2], terms[near])
    wanted = (shifts - true[1])[near].ravel()
    n_terms = terms.shape[1]
    found = np.linalg.lstsq(design.reshape(len(wanted), 3 * n_terms), wanted, rcond=None)[0]
    return terms @ found.reshape(3, n_terms).T


def _degree(truth: Truth, left: np.ndarray, near: np.ndarray) -> int:
    """The total degree whose polynomials tell the turns of particles left out best."""
    fold = np.arange(len(left)) % _FOLDS
    best, least = 0, np.inf
    for degree in range(_MAX_DEGREE + 1):
        terms, missed = _terms(truth, degree), 0.0
        if terms.shape[1] * _PER_TERM > near.sum():
            break
        for held in range(_FOLDS):
            own, others = near & (fold == held), near & (fold != held)
            found = np.linalg.lstsq(terms[others], left[others], rcond=None)[0]
            missed += float(((terms[own] @ found - left[own]) ** 2).sum())
        if missed < least:
            best, least = degree, missed
    return best


def _terms(truth: Truth, degree: int) -> np.ndarray:
    """[N, B] products of the states' own terms, up to a total degree."""
    plain = tuple(Knob(str(k), k, "interval", ()) for k in range(truth.dim))
    total, columns = np.zeros(1, int), np.ones((len(truth), 1))
    for knob in truth.knobs or plain:
        degrees, own = _own_terms(truth.states[:, knob.column], knob, degree)
        sums = (total[:, None] + degrees).ravel()
        products = (columns[:, :, None] * own[:, None, :]).reshape(len(truth), -1)
        total, columns = sums[sums <= degree], products[:, sums <= degree]
    return columns


def _own_terms(states: np.ndarray, knob: Knob, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Degrees [b] and values [N, b] of one knob's terms, the constant first."""
    if knob.kind == "interval":
        low, high = states.min(), states.max()
        within = 2.0 * (states - low) / max(high - low, 1e-12) - 1.0
        return np.arange(degree + 1), np.polynomial.legendre.legvander(within, degree)
    ones = np.ones_like(states)
    if knob.kind == "circle":
        turns = [2.0 * np.pi * k * states for k in range(1, degree + 1)]
        waves = [wave(turn) for turn in turns for wave in (np.cos, np.sin)]
        return (np.arange(2 * degree + 1) + 1) // 2, np.stack([ones, *waves], axis=1)
    names = np.unique(states)[1:] if degree else ()
    members = [(states == name).astype(float) for name in names]
    return np.minimum(np.arange(len(members) + 1), 1), np.stack([ones, *members], axis=1)


def score_frames(
    frames: Frames, estimated: Poses, truth: Truth, pixel_size: float
) -> dict[str, Any]:
    """Errors of poses after each state's own gauge.

    Args:
        frames: of `state_frames`.
        estimated: rotations [N, 3, 3] and shifts in Angstrom [N, 2], as it was given.
        truth: of the same particles.
        pixel_size: Angstrom.
    """
    angles, distances = frames.errors(estimated, (truth.rotations, truth.shifts_angstrom))
    return {
        "degree": frames.degree,
        "rotation_error_deg_median": float(np.median(angles)),
        "aligned_within_10_deg": float(np.mean(angles < _ALIGNED_DEG)),
        "shift_error_px_median": float(np.median(distances) / pixel_size),
        "span_deg": frames.span_deg,
    }
