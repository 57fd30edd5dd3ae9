"""Checkpoints: all unknowns of a chain and its tunings, between two sweeps, written atomically."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.fitting.sweep import ChainState, Sweep, Tunings
from hypermol.io.errors import InputError
from hypermol.io.store import Arrays, RunDirectory
from hypermol.molecule.protocol import SlicedMolecule


class Checkpoint(NamedTuple):
    """What was saved of a chain, as arrays by their paths, and the sweeps done to reach it."""

    arrays: Arrays
    done: int


def named_leaves(tree: Any, prefix: str) -> Arrays:
    """The leaves of a pytree by their paths: prefix.path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        prefix + "." + jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf)
        for path, leaf in leaves
    }


def with_leaves(like: Any, arrays: Arrays, prefix: str) -> Any:
    """A pytree of the structure of `like` with the leaves that `named_leaves` wrote.

    Raises:
        KeyError: one of them is not there.
    """
    names = named_leaves(jax.tree.map(lambda x: np.zeros(0), like), prefix)
    leaves = jax.device_put([arrays[name] for name in names])
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def chain_name(chain: int) -> str:
    """Where a chain's checkpoint is in the run directory."""
    return f"checkpoints/c{chain:02d}.npz"


def trial_name(trial: int) -> str:
    """Where a search's checkpoint is, until one of them has been chosen."""
    return f"checkpoints/trial{trial:02d}.npz"


def branch_name(start: int) -> str:
    """Where the end of a start is, from which its chains part."""
    return f"checkpoints/start{start:02d}.npz"


def hand_name(start: int) -> str:
    """Where the map of one hand is that a start begins again with."""
    return f"checkpoints/hand{start:02d}.npz"


def save(
    directory: RunDirectory, name: str, state: ChainState, tunings: Tunings, done: int
) -> None:
    """Write a checkpoint over the last one of its name."""
    arrays = named_leaves(state, "state") | named_leaves(tunings, "tuning")
    directory.write_arrays(name, arrays | {"done": np.asarray(done)})


def load(directory: RunDirectory, name: str) -> Checkpoint | None:
    """A checkpoint, or None where there is none."""
    if not directory.has(name):
        return None
    arrays = directory.read_arrays(name)
    if "done" not in arrays or not any(key.startswith("state.") for key in arrays):
        raise InputError(
            f"{directory.path / name} was left by another version of hypermol: run it again into "
            "another --out"
        )
    return Checkpoint(arrays, int(arrays["done"]))


def restored_state(found: Checkpoint, molecule: SlicedMolecule, like: ChainState) -> ChainState:
    """The state of a checkpoint, whose theta is of a molecule.

    Args:
        found: as loaded.
        molecule: of the stage that it was left in.
        like: a state of any form, for the structure of the rest.

    Raises:
        InputError: other unknowns were saved.
    """
    theta = jax.eval_shape(lambda: molecule.init(jax.random.key(0)))
    return _restored(like._replace(theta=theta), found, "state")


def restored_tunings(found: Checkpoint, fresh: Tunings) -> Tunings:
    """The saved tunings in place of fresh ones, as they were left.

    Raises:
        InputError: kernels were tuned by other numbers when they were saved.
    """
    return _restored(fresh, found, "tuning")


def _restored(like: Any, found: Checkpoint, name: str) -> Any:
    """Leaves of a tree of this form."""
    try:
        return with_leaves(like, found.arrays, name)
    except KeyError as missing:
        raise InputError(
            f"the run's checkpoint has no {missing.args[0]}: it was left by another version of "
            "hypermol: run it again into another --out"
        ) from None


def carried_tunings(found: Checkpoint, fresh: Tunings, sweep: Sweep) -> Tunings:
    """At a new stage: what every block makes of its tuning at the last one, if it was there."""
    carried = dict(fresh)
    for block in sweep:
        prefix = f"tuning.{block.name}"
        try:
            before = with_leaves(fresh[block.name], found.arrays, prefix)
        except KeyError:
            continue
        same = jax.tree.map(lambda a, b: jnp.shape(a) == jnp.shape(b), before, fresh[block.name])
        if all(jax.tree.leaves(same)):
            carried[block.name] = block.carry(before, fresh[block.name])
    return carried
