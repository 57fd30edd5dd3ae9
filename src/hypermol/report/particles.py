"""Poses that the particles started from, and how far the posterior moved them."""

from typing import NamedTuple

import numpy as np

from hypermol.analysis.chains import aligned_states, circular_mean, has_states, is_circle
from hypermol.analysis.particle_summary import ParticleSummary
from hypermol.analysis.run import Run
from hypermol.analysis.summary import run_particles
from hypermol.io.errors import InputError
from hypermol.space.rotation import angle_between


class InputPoses(NamedTuple):
    """What the particle file said.

    Attributes:
        rotation: [N, 3, 3].
        shift_px: [N, 2].
        defocus_um: [N] mean of the two axes in micrometres, or None without CTFs.
    """

    rotation: np.ndarray
    shift_px: np.ndarray
    defocus_um: np.ndarray | None


def read_input_poses(run: Run) -> tuple[InputPoses | None, str]:
    """The particle file's poses, or None and a sentence that says why not."""
    try:
        metadata = run_particles(run)
    except (InputError, OSError) as error:
        return None, (
            "Changes from the input poses and the correlation with defocus are left out, because "
            f"the particle file could not be used: {error}."
        )
    defocus = None
    if metadata.has_ctf:
        ctf = metadata.ctf
        defocus = 0.5e-4 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    shifts = metadata.shifts_angstrom / run.info["pixel_size_angstrom"]
    if not metadata.has_poses:
        return None, "The particle file has no poses, so there is no change to show."
    return InputPoses(metadata.rotations, shifts, defocus), ""


def pose_change(summary: ParticleSummary, given: InputPoses) -> tuple[np.ndarray, np.ndarray]:
    """Angle in degrees [N] and distance in pixels [N] between posterior mean and input."""
    angle = angle_between(given.rotation, summary.rotations)
    return angle, np.linalg.norm(summary.shift_px - given.shift_px, axis=-1)


def _arc(turns: np.ndarray) -> np.ndarray:
    """Differences in turns brought to [-1/2, 1/2)."""
    return np.mod(turns + 0.5, 1.0) - 0.5


def state_spread(run: Run) -> float | None:
    """Standard deviation of all particles' states over all draws; on a circle of the arc."""
    if not has_states(run):
        return None
    states = aligned_states(run).ravel()
    if is_circle(run):
        return float(np.sqrt(np.mean(_arc(states - circular_mean(states)) ** 2)))
    return float(states.std())


def chain_agreement(run: Run) -> float | None:
    """Least correlation between two chains' mean states; None with one chain or one state.

    Chains are first brought to one direction (and origin, on a circle); for circles it is the
    mean cosine of the angle between them.
    """
    if len(run.chains) < 2 or not has_states(run):
        return None
    states = aligned_states(run)
    if is_circle(run):
        angles = 2.0 * np.pi * circular_mean(states, axis=1)
        pairs = [np.cos(a - b).mean() for a, b in _pairs(angles)]
    else:
        pairs = [np.corrcoef(a, b)[0, 1] for a, b in _pairs(states.mean(axis=1))]
    return float(np.min(pairs))


def _pairs(rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(rows[i], rows[j]) for i in range(len(rows)) for j in range(i)]
