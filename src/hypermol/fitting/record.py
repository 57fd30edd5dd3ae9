"""What is kept of a sweep: a line of the trace, and the arrays of a posterior sample."""

import numpy as np

from hypermol.fitting.checkpoint import motion_arrays
from hypermol.fitting.sampler import ChainState, Info
from hypermol.imaging.blocks import from_blocks
from hypermol.molecule.protocol import LinearMolecule

#: Numbers that only some sweeps have: name in the trace, in a sweep's info, and a factor.
_OPTIONAL = (
    ("moved_rotation", "particles.moved_rotation", 1.0),
    ("moved_shift", "particles.moved_shift", 1.0),
    ("frame_turn_deg", "frame.turn_rad", 180.0 / np.pi),
    ("frame_drift_px", "frame.drift_px", 1.0),
    ("accepted_molecule", "molecule.acceptance", 1.0),
    ("accepted_motion", "motion.acceptance", 1.0),
)


def trace_numbers(state: ChainState, info: Info) -> dict[str, float]:
    """A sweep's numbers for trace.jsonl: the fit, mu, and how far the proposals went.

    Means over particles; acceptances are of density priors that are not Gaussian and of
    trajectories, where there are any.
    """
    noise = np.asarray(state.nuisance.noise_variance, np.float64)
    power = np.asarray(info["nuisance.residual_power"], np.float64)
    step = np.median(state.size.rotation_rad)  # wider than the prior is as wide as the prior
    found = {
        name: factor * float(np.mean(info[key])) for name, key, factor in _OPTIONAL if key in info
    }
    return {
        "cg_iterations": int(info["molecule.iterations"]),
        "cg_error_in_sd": float(info["molecule.error_in_sd"]),
        "misfit": float(np.sum(power[1:] / noise[1:])),
        "noise": float(noise[1:].mean()),
        "pose_sd_deg": float(np.degrees(state.nuisance.pose_sd_rad)),
        "shift_sd_px": float(state.nuisance.shift_sd_px),
        "contrast_sd": float(state.nuisance.contrast_sd),
        "rotation_step_deg": float(np.degrees(np.minimum(step, state.nuisance.pose_sd_rad))),
        **found,
    }


def sample_arrays(molecule: LinearMolecule, state: ChainState, n: int) -> dict[str, np.ndarray]:
    """What a posterior sample keeps: theta, mu and the latents of the n particles."""
    latents = {name: from_blocks(value, n) for name, value in state.latents._asdict().items()}
    nuisance = {name: np.asarray(value) for name, value in state.nuisance._asdict().items()}
    shown = {"maps": np.asarray(molecule.shown(state.theta))}
    return {**shown, **motion_arrays(state.theta.motion), **latents, **nuisance}
