"""Checkpoints: a chain's whole state between two sweeps, written atomically."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.data.latents import Latents
from hypermol.fitting.sampler import ChainState
from hypermol.inference.ensemble import MoveSize
from hypermol.io.store import RunDirectory
from hypermol.molecule.protocol import Coefficients, LinearMolecule
from hypermol.posterior.priors import Nuisance

#: In place of a chain's number: where chains part.
BRANCH = -1


class Checkpoint(NamedTuple):
    """A state, the sweeps done to reach it, and the support's radius if it is known."""

    state: ChainState
    done: int
    radius: float | None


def checkpoint_name(chain: int) -> str:
    """Where a chain's checkpoint is in the run directory."""
    return "checkpoints/branch.npz" if chain == BRANCH else f"checkpoints/c{chain:02d}.npz"


def save_checkpoint(directory: RunDirectory, chain: int, checkpoint: Checkpoint) -> None:
    """Write a chain's checkpoint over its last one."""
    state = checkpoint.state
    groups: dict[str, Any] = {
        "latents": state.latents,
        "nuisance": state.nuisance,
        "size": state.size,
    }
    arrays = {
        f"{group}.{name}": value
        for group, values in groups.items()
        for name, value in values._asdict().items()
    }
    radius = np.nan if checkpoint.radius is None else checkpoint.radius
    arrays |= {f"theta.{i:03d}": leaf for i, leaf in enumerate(jax.tree.leaves(state.theta))}
    arrays |= {"done": checkpoint.done, "radius": radius}
    directory.write_arrays(
        checkpoint_name(chain), {key: np.asarray(v) for key, v in arrays.items()}
    )


def load_checkpoint(directory: RunDirectory, chain: int) -> Checkpoint | None:
    """A chain's checkpoint, or None; caches are refreshed by the blocks that read them.

    theta comes as a bare list of arrays, which `with_theta` puts in its molecule's form.
    """
    if not directory.has(checkpoint_name(chain)):
        return None
    arrays = directory.read_arrays(checkpoint_name(chain))

    def group(name: str) -> dict[str, jax.Array]:
        prefix = name + "."
        return {
            key.removeprefix(prefix): jnp.asarray(value)
            for key, value in arrays.items()
            if key.startswith(prefix)
        }

    state = ChainState(
        theta=Coefficients([value for _, value in sorted(group("theta").items())]),
        nuisance=Nuisance(**group("nuisance")),
        latents=Latents(**group("latents")),
        size=MoveSize(**group("size")),
        prepared=jnp.zeros(0),
    )
    radius = float(arrays["radius"])
    return Checkpoint(state, int(arrays["done"]), None if np.isnan(radius) else radius)


def with_theta(state: ChainState, molecule: LinearMolecule) -> ChainState:
    """A loaded state with theta in the form of the molecule that it was saved from."""
    form = jax.tree.structure(jax.eval_shape(molecule.init, jax.random.key(0)))
    return state._replace(theta=jax.tree.unflatten(form, jax.tree.leaves(state.theta)))


def motion_arrays(motion: Any) -> dict[str, np.ndarray]:
    """A sample's entries for the trajectories' parameters: motion.part.parameter."""
    leaves = jax.tree_util.tree_leaves_with_path(motion)
    return {
        "motion." + jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in leaves
    }
