"""Posterior means and standard deviations of each particle's unknowns."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from hypermol.analysis.chains import iterate_samples, run_knobs, state_gauges
from hypermol.analysis.knobs import Knob, class_index
from hypermol.analysis.run import Run


class ParticleSummary(NamedTuple):
    """Posterior of N particles, one at a time.

    Attributes:
        rotations: [N, 3, 3] chordal mean, molecule to microscope.
        pose_sd_deg: [N] root mean square angle to that mean.
        shift_px: [N, 2] mean (x, y).
        shift_sd_px: [N] root mean square of the two components' sds.
        contrast: [N] mean.
        contrast_sd: [N].
        state: [N, dim] mean (mean direction on a circle, most frequent class); dim is 0 for a
            rigid molecule.
        state_sd: [N, dim] sd (circular: sqrt(-2 log R) / 2 pi, in turns; of classes: the share
            of samples in any other class).
        n_samples: number of samples.
    """

    rotations: np.ndarray
    pose_sd_deg: np.ndarray
    shift_px: np.ndarray
    shift_sd_px: np.ndarray
    contrast: np.ndarray
    contrast_sd: np.ndarray
    state: np.ndarray
    state_sd: np.ndarray
    n_samples: int


class _Sums:
    """Running sums over samples, in float64."""

    def __init__(self, n: int, knobs: tuple[Knob, ...]) -> None:
        self.count = 0
        self.knobs = knobs
        self.scatter = np.zeros((n, 4, 4))
        self.values = np.zeros((n, 3 + len(knobs)))  # shift x, shift y, contrast, states
        self.squares = np.zeros_like(self.values)
        self.phasor = np.zeros((n, len(knobs)), complex)
        self.counts = [np.zeros((n, len(knob.labels))) for knob in knobs]

    def add(self, arrays: dict[str, np.ndarray], state: np.ndarray) -> None:
        q = np.asarray(arrays["quaternion"], np.float64)
        q = q / np.linalg.norm(q, axis=-1, keepdims=True)
        self.scatter += q[:, :, None] * q[:, None, :]
        columns = [arrays["shift_px"], arrays["contrast"][:, None], state]
        row = np.concatenate(columns, axis=1).astype(np.float64)
        self.count += 1
        step = row - self.values
        self.values += step / self.count
        self.squares += step * (row - self.values)
        self.phasor += np.exp(2j * np.pi * state)
        for knob, counts in zip(self.knobs, self.counts, strict=True):
            if n := len(knob.labels):
                counts += np.eye(n)[class_index(state[:, knob.column], n)]

    def state(self, knob: Knob) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd [N] of a knob, as its kind has them."""
        place = knob.column
        if knob.kind == "circle":
            resultant = self.phasor[:, place] / self.count
            length = np.clip(np.abs(resultant), 1e-12, 1.0)
            mean = np.mod(np.angle(resultant) / (2 * np.pi), 1.0)
            return mean, np.sqrt(-2.0 * np.log(length)) / (2 * np.pi)
        if knob.kind == "classes":
            counts = self.counts[place]
            mean = (counts.argmax(axis=1) + 0.5) / counts.shape[1]
            return mean, 1.0 - counts.max(axis=1) / self.count
        return self.values[:, 3 + place], self.sd()[:, 3 + place]

    def sd(self) -> np.ndarray:
        return np.sqrt(self.squares / max(self.count - 1, 1))

    def rotations(self) -> tuple[np.ndarray, np.ndarray]:
        """Chordal means and root mean square angles (degrees).

        The quaternion mean is the top eigenvector of the mean q q^T (free of signs), which is the
        chordal mean of the matrices; its eigenvalue is the mean of cos^2 of half the angle.
        """
        eigenvalues, vectors = np.linalg.eigh(self.scatter / self.count)
        sine2 = np.clip(eigenvalues[:, :3].sum(axis=1), 0.0, 1.0)
        return rotation_matrices(vectors[..., -1]), np.degrees(2.0 * np.arcsin(np.sqrt(sine2)))


def rotation_matrices(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices float64 [..., 3, 3] of quaternions [..., 4] (w, x, y, z), any length."""
    return Rotation.from_quat(quaternions, scalar_first=True).as_matrix()


def summarise_particles(run: Run) -> ParticleSummary:
    """Means and sds over all samples of all chains, states in the first chain's gauge."""
    gauges = state_gauges(run)
    knobs = run_knobs(run)
    n = run.info["n_particles"]
    sums = _Sums(n, knobs)
    for sample in iterate_samples(run, "quaternion", "shift_px", "contrast", "state"):
        sums.add(sample.arrays, gauges[sample.chain].apply(sample.arrays["state"]))
    rotations, pose_sd = sums.rotations()
    sd = sums.sd()
    state, state_sd = np.zeros((2, n, len(knobs)))
    for knob in knobs:
        state[:, knob.column], state_sd[:, knob.column] = sums.state(knob)
    return ParticleSummary(
        rotations,
        pose_sd,
        sums.values[:, :2],
        np.sqrt((sd[:, :2] ** 2).mean(axis=1)),
        sums.values[:, 2],
        sd[:, 2],
        state,
        state_sd,
        sums.count,
    )
