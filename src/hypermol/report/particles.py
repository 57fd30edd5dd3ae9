"""Poses that the particles started from, and how far the posterior moved them."""

from itertools import combinations
from typing import NamedTuple

import numpy as np

from hypermol.analysis.knobs import Knob, circular_mean, class_index
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
    """The poses that the particle file gave, or None and a sentence that says why not."""
    if run.info["poses"] == "search":
        return None, (
            "Poses were found from nothing (--poses search): there are no input poses to compare "
            "with. The map may be the molecule's mirror image, which no image tells."
        )
    try:
        metadata = run_particles(run)
    except (InputError, OSError) as error:
        return None, (
            "Changes from the input poses and the correlation with defocus are left out, because "
            f"the run's particles could not be read: {error}."
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


def state_spread(knob: Knob, states: np.ndarray) -> float:
    """Standard deviation of states [S, N] over particles and draws; on a circle of the arc.

    Of classes the share of states outside the largest class.
    """
    if knob.kind == "circle":
        flat = states.ravel()
        return float(np.sqrt(np.mean(_arc(flat - circular_mean(flat)) ** 2)))
    if n := len(knob.labels):
        return float(1.0 - np.bincount(class_index(states, n).ravel()).max() / states.size)
    return float(states.std())


def chain_agreement(knob: Knob, states: np.ndarray) -> float | None:
    """Least agreement of two chains' mean states, of states [chains, draws, N] in one gauge.

    The correlation; on circles the mean cosine of the angle between them; of classes the share of
    particles that are most often in the same class. None with one chain.
    """
    if len(states) < 2:
        return None
    return float(min(_agreement(knob, a, b) for a, b in combinations(states, 2)))


def _agreement(knob: Knob, first: np.ndarray, second: np.ndarray) -> float:
    """Of two chains' states [draws, N]."""
    if knob.kind == "circle":
        return float(np.cos(2.0 * np.pi * (circular_mean(first) - circular_mean(second))).mean())
    if n := len(knob.labels):
        shares = [np.eye(n)[class_index(states, n)].mean(axis=0) for states in (first, second)]
        return float(np.mean(shares[0].argmax(axis=1) == shares[1].argmax(axis=1)))
    return float(np.corrcoef(first.mean(axis=0), second.mean(axis=0))[0, 1])
