"""Posterior of the particles' poses and states, and the poses that they started from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from hypermol.analysis.coverage import mean_rotation
from hypermol.analysis.run import Run
from hypermol.data.particles import load_particles
from hypermol.io.errors import InputError
from hypermol.space.rotation import angle_between, matrix_from_quaternion


class ParticleSummary(NamedTuple):
    """Posterior means and standard deviations of N particles.

    Attributes:
        rotation: [N, 3, 3] chordal mean.
        rotation_sd_deg: [N] root mean square angle from the mean.
        shift_px: [N, 2].
        shift_sd_px: [N] root mean square distance from the mean.
        contrast: [N].
        state: [N] mean of the first state variable (circular mean in [0, 1) on a circle).
        state_sd: [N]; on a circle the root mean square arc from the mean, in turns.
    """

    rotation: np.ndarray
    rotation_sd_deg: np.ndarray
    shift_px: np.ndarray
    shift_sd_px: np.ndarray
    contrast: np.ndarray
    state: np.ndarray
    state_sd: np.ndarray


class InputPoses(NamedTuple):
    """What the particle file said: [N, 3, 3], [N, 2] in pixels, [N] in micrometres or None."""

    rotation: np.ndarray
    shift_px: np.ndarray
    defocus_um: np.ndarray | None


def arc(turns: np.ndarray) -> np.ndarray:
    """Differences in turns brought to [-1/2, 1/2)."""
    return np.mod(turns + 0.5, 1.0) - 0.5


def state_moments(samples: np.ndarray, is_circle: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean [N] and standard deviation [N] of state draws [S, N]."""
    if not is_circle:
        return samples.mean(axis=0), samples.std(axis=0)
    centre = np.angle(np.exp(2j * np.pi * samples).mean(axis=0)) / (2.0 * np.pi)
    spread = np.sqrt(np.mean(arc(samples - centre) ** 2, axis=0))
    return np.mod(centre, 1.0), spread


def summarise_particles(run: Run) -> ParticleSummary:
    """Moments over all chains and draws."""
    quaternions = run.pooled("quaternion")
    total = np.zeros((quaternions.shape[1], 3, 3))
    for draw in quaternions:
        total += np.asarray(matrix_from_quaternion(draw), np.float64)
    resultant = total / len(quaternions)
    rotation = mean_rotation(resultant[None])
    # the mean cosine of the angle to the mean rotation follows from the resultant alone
    cosine = 0.5 * (np.einsum("nij,nij->n", rotation, resultant) - 1.0)
    shifts = run.pooled("shift_px")
    state = run.pooled("state")
    if state.shape[-1]:
        moments = state_moments(state[..., 0], run.info["state_space"] == "circle")
    else:
        moments = (np.zeros(state.shape[1]), np.zeros(state.shape[1]))
    return ParticleSummary(
        rotation,
        np.degrees(np.sqrt(2.0 * np.clip(1.0 - cosine, 0.0, None))),
        shifts.mean(axis=0),
        np.sqrt(shifts.var(axis=0).sum(axis=-1)),
        run.pooled("contrast").mean(axis=0),
        *moments,
    )


def read_input_poses(run: Run) -> tuple[InputPoses | None, str]:
    """The particle file's poses, or None and a sentence that says why not."""
    path = Path(run.info["particles"])
    if not path.is_file():
        return None, (
            f"The particle file {path} is no longer there, so changes from the input poses and "
            "the correlation with defocus are left out."
        )
    try:
        particles = load_particles(path, allow_missing=("ctf",))
    except InputError as error:
        return None, f"The particle file could not be read, so input poses are left out: {error}."
    if particles.n != run.info["n_particles"]:
        return None, (
            f"{path} now holds {particles.n} particles and the run used "
            f"{run.info['n_particles']}: changes from the input poses are left out."
        )
    defocus = None
    if particles.metadata.has_ctf:
        ctf = particles.ctf
        defocus = 0.5e-4 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    shifts = particles.shifts_angstrom / particles.pixel_size_angstrom
    return InputPoses(particles.rotations, shifts, defocus), ""


def pose_change(summary: ParticleSummary, given: InputPoses) -> tuple[np.ndarray, np.ndarray]:
    """Angle in degrees [N] and distance in pixels [N] between posterior mean and input."""
    angle = angle_between(given.rotation, summary.rotation)
    return angle, np.linalg.norm(summary.shift_px - given.shift_px, axis=-1)
