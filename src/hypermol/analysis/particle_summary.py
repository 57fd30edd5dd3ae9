"""Posterior means and standard deviations of each particle's unknowns.

Where poses may jump, draws of one particle can lie in places far apart, and their mean in none.
Means are therefore over the draws about the most frequent pose, and deviations over all draws.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from hypermol.analysis.chains import iterate_samples, run_knobs, state_gauges
from hypermol.analysis.knobs import Knob, class_index
from hypermol.analysis.run import Run

#: Draws within this angle of the draw that has most others so near are about one pose.
_NEAR_DEG = 30.0
#: Draws that are tried for its middle.
_TRIED = 25


class ParticleSummary(NamedTuple):
    """Posterior of N particles, one at a time.

    Attributes:
        rotations: [N, 3, 3] chordal mean, molecule to microscope.
        pose_sd_deg: [N] root mean square angle of all draws to that mean.
        pose_share: [N] share of the draws that are about one pose, whose means these are: 1 where
            all agree.
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
    pose_share: np.ndarray
    shift_px: np.ndarray
    shift_sd_px: np.ndarray
    contrast: np.ndarray
    contrast_sd: np.ndarray
    state: np.ndarray
    state_sd: np.ndarray
    n_samples: int


def about_one_pose(quaternions: np.ndarray) -> np.ndarray:
    """Which draws are about the most frequent pose of their particle, bool [S, N].

    Args:
        quaternions: [S, N, 4] unit quaternions.
    """
    limit = np.cos(np.radians(_NEAR_DEG) / 2.0)
    tried = np.unique(np.linspace(0, len(quaternions) - 1, _TRIED).astype(int))
    best = np.zeros(quaternions.shape[1])
    chosen = np.ones(quaternions.shape[:2], bool)
    for draw in tried:
        cosine = np.abs(np.einsum("snq,nq->sn", quaternions, quaternions[draw]))
        near = cosine > limit
        score = near.sum(axis=0) + near.mean(axis=0) * (cosine * near).mean(axis=0)
        better = score > best
        best = np.where(better, score, best)
        chosen = np.where(better, near, chosen)
    return chosen


class _Sums:
    """Running sums over samples, in float64: of the draws about one pose, and of all."""

    def __init__(self, n: int, knobs: tuple[Knob, ...]) -> None:
        self.knobs = knobs
        self.count, self.near = 0, np.zeros(n)
        self.scatter, self.all_scatter = np.zeros((2, n, 4, 4))
        # shift x, shift y, contrast, states, less those of the first draw
        self.first = np.zeros((n, 3 + len(knobs)))
        self.values, self.all_values, self.squares = np.zeros((3, n, 3 + len(knobs)))
        self.phasor, self.all_phasor = np.zeros((2, n, len(knobs)), complex)
        self.counts = [np.zeros((2, n, len(knob.labels))) for knob in knobs]

    def add(self, arrays: dict[str, np.ndarray], state: np.ndarray, near: np.ndarray) -> None:
        q = _unit(arrays["quaternion"])
        outer = q[:, :, None] * q[:, None, :]
        columns = [arrays["shift_px"], arrays["contrast"][:, None], state]
        row = np.concatenate(columns, axis=1).astype(np.float64)
        if self.count == 0:
            self.first = row
        row = row - self.first
        phase = np.exp(2j * np.pi * state)
        self.count += 1
        self.near += near
        self.all_scatter += outer
        self.scatter += near[:, None, None] * outer
        self.values += near[:, None] * row
        self.all_values += row
        self.squares += row**2
        self.phasor += near[:, None] * phase
        self.all_phasor += phase
        for knob, counts in zip(self.knobs, self.counts, strict=True):
            if n := len(knob.labels):
                member = np.eye(n)[class_index(state[:, knob.column], n)]
                counts += np.stack([near[:, None] * member, member])

    @property
    def means(self) -> np.ndarray:
        """Of shift x, shift y, contrast and states, [N, ...]."""
        return self.first + self.values / self.near[:, None]

    def state(self, knob: Knob) -> tuple[np.ndarray, np.ndarray]:
        """Mean and sd [N] of a knob, as its kind has them."""
        place = knob.column
        if knob.kind == "circle":
            mean = np.mod(np.angle(self.phasor[:, place]) / (2 * np.pi), 1.0)
            length = np.clip(np.abs(self.all_phasor[:, place]) / self.count, 1e-12, 1.0)
            return mean, np.sqrt(-2.0 * np.log(length)) / (2 * np.pi)
        if knob.kind == "classes":
            counts, every = self.counts[place]
            chosen = counts.argmax(axis=1)
            share = np.take_along_axis(every, chosen[:, None], axis=1)[:, 0] / self.count
            return (chosen + 0.5) / counts.shape[1], 1.0 - share
        return self.means[:, 3 + place], self.sd()[:, 3 + place]

    def sd(self) -> np.ndarray:
        """Of all draws about the means."""
        mean = self.values / self.near[:, None]
        total = self.squares - 2.0 * mean * self.all_values + self.count * mean**2
        return np.sqrt(np.maximum(total, 0.0) / max(self.count - 1, 1))

    def rotations(self) -> tuple[np.ndarray, np.ndarray]:
        """Chordal means and root mean square angles (degrees).

        The quaternion mean is the top eigenvector of the mean q q^T (free of signs), which is the
        chordal mean of the matrices; with it, the mean q q^T of all draws gives the mean of cos^2
        of half the angle.
        """
        mean = np.linalg.eigh(self.scatter)[1][..., -1]
        cosine2 = np.einsum("np,npq,nq->n", mean, self.all_scatter / self.count, mean)
        sine2 = np.clip(1.0 - cosine2, 0.0, 1.0)
        return rotation_matrices(mean), np.degrees(2.0 * np.arcsin(np.sqrt(sine2)))


def _unit(quaternions: np.ndarray) -> np.ndarray:
    q = np.asarray(quaternions, np.float64)
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def rotation_matrices(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices float64 [..., 3, 3] of quaternions [..., 4] (w, x, y, z), any length."""
    return Rotation.from_quat(quaternions, scalar_first=True).as_matrix()


def summarise_particles(run: Run) -> ParticleSummary:
    """Means and sds over all samples of all chains, states in the first chain's gauge; see the
    module for poses that jump."""
    gauges = state_gauges(run)
    knobs = run_knobs(run)
    n = run.info["n_particles"]
    sums = _Sums(n, knobs)
    draws = [sample.arrays["quaternion"] for sample in iterate_samples(run, "quaternion")]
    near = about_one_pose(_unit(np.stack(draws)))
    samples = iterate_samples(run, "quaternion", "shift_px", "contrast", "state")
    for sample, kept in zip(samples, near, strict=True):
        sums.add(sample.arrays, gauges[sample.chain].apply(sample.arrays["state"]), kept)
    rotations, pose_sd = sums.rotations()
    sd = sums.sd()
    state, state_sd = np.zeros((2, n, len(knobs)))
    for knob in knobs:
        state[:, knob.column], state_sd[:, knob.column] = sums.state(knob)
    return ParticleSummary(
        rotations,
        pose_sd,
        sums.near / sums.count,
        sums.means[:, :2],
        np.sqrt((sd[:, :2] ** 2).mean(axis=1)),
        sums.means[:, 2],
        sd[:, 2],
        state,
        state_sd,
        sums.count,
    )
