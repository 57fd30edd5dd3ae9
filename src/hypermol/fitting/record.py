"""What is kept of a sweep: the arrays of a posterior sample, and a check that it is finite."""

from typing import Any

import jax
import numpy as np

from hypermol.fitting.checkpoint import named_leaves
from hypermol.fitting.sweep import ChainState
from hypermol.imaging.blocks import from_blocks
from hypermol.io.errors import InputError
from hypermol.io.store import Arrays
from hypermol.molecule.protocol import SlicedMolecule


def sample_arrays(molecule: SlicedMolecule, state: ChainState, n: int) -> Arrays:
    """What a posterior sample keeps: theta, mu and the latents of the n particles.

    theta as the maps that show it, and as the parameters that they do not show (`motion.`).
    """
    latents = {name: from_blocks(value, n) for name, value in state.latents._asdict().items()}
    mu = {name: np.asarray(value) for name, value in state.mu._asdict().items()}
    parameters = named_leaves(molecule.parameters(state.theta), "motion")
    return {"maps": np.asarray(molecule.shown(state.theta)), **parameters, **latents, **mu}


def check_finite(state: ChainState, stage: str, sweep: int) -> None:
    """Stop a run at the first number that is none.

    Raises:
        InputError: names it, and what it may come from.
    """
    for name, part in state._asdict().items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(part):
            if not np.all(np.isfinite(np.asarray(leaf))):
                raise InputError(
                    f"{name}{_dotted(path)} is not finite after sweep {sweep} ({stage}): look for "
                    "particles with impossible optics or pixels (`hypermol check` lists them), and "
                    "for a recipe whose priors leave a scale free"
                )


def _dotted(path: Any) -> str:
    named = jax.tree_util.keystr(path, simple=True, separator=".")
    return f".{named}" if named else ""
