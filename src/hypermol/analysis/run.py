"""A finished (or running) run as arrays: what reports, exports and scores read."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import jax.numpy as jnp
import numpy as np

from hypermol.io.errors import InputError
from hypermol.io.store import RunDirectory
from hypermol.molecule.composite import Composite
from hypermol.recipe.design import Grid
from hypermol.recipe.part_tables import read_generic, read_parts
from hypermol.space.fourier import crop_or_pad_volume
from hypermol.space.state_space import StateSpace

#: Resolution of the molecule that weights are asked of; they do not depend on it.
_COARSE_KMAX = 4


@final
@dataclass(frozen=True)
class Run:
    """Reader of a run directory.

    Attributes:
        directory: where it lies.
        info: run.json: particles (path), n_particles, box, pixel_size_angstrom, kmax, grid,
            radius_angstrom, state_space, state_name, basis, n_terms, chains, poses, seed,
            versions, data_hash, cpu_seconds, wall_seconds.
    """

    directory: RunDirectory
    info: dict[str, Any]

    @cached_property
    def chains(self) -> list[int]:
        """Chains that left samples."""
        return [chain for chain in range(self.info["chains"]) if self.directory.sample_names(chain)]

    @cached_property
    def molecule(self) -> Composite:
        """The fitted model, on a coarse grid: for its states and weights alone."""
        info = self.info
        parts = info.get("shown") or info.get("options", {}).get("part", ())
        size = (info["box"], info["pixel_size_angstrom"])
        if parts:
            design = read_parts(parts, *size)
        else:
            design = read_generic(info["basis"], info["n_terms"], info["state_name"])
        grid = Grid(*size, _COARSE_KMAX, 0.5 * size[0] * size[1])
        return design.molecule(grid, info["n_terms"])

    @property
    def state_space(self) -> StateSpace:
        """Where the fitted model's states live."""
        return self.molecule.state_space

    def stacked(self, name: str) -> np.ndarray:
        """One sample entry of all chains, [chains, draws, ...] (draws cut to the shortest chain).

        Raises:
            InputError: no samples yet.
        """
        per_chain = [
            np.stack([self._entry(sample, name) for sample in self.directory.sample_names(chain)])
            for chain in self.chains
        ]
        if not per_chain:
            raise InputError(
                f"{self.directory.path} holds no posterior samples yet: let `hypermol fit` reach "
                "its sampling stage (--resume goes on)"
            )
        shortest = min(len(draws) for draws in per_chain)
        return np.stack([draws[:shortest] for draws in per_chain])

    def pooled(self, name: str) -> np.ndarray:
        """One sample entry of all chains and draws, [S, ...]."""
        stacked = self.stacked(name)
        return stacked.reshape(stacked.shape[0] * stacked.shape[1], *stacked.shape[2:])

    def _entry(self, sample: str, name: str) -> np.ndarray:
        return self.directory.read_arrays(sample, (name,))[name]

    @cached_property
    def maps(self) -> np.ndarray:
        """Densities of all samples, float32 [S, F, n, n, n], on the model's own grid."""
        return self.pooled("maps")

    def weights(self, tau: np.ndarray) -> np.ndarray:
        """P_q at states [..., dim]: [..., F]."""
        return np.asarray(self.molecule.shown_weights(jnp.asarray(tau, jnp.float32)))

    def nodes(self, n: int) -> np.ndarray:
        """n states along the first state variable, [n, dim] (one state for a rigid molecule)."""
        return np.asarray(self.state_space.nodes(n))

    def to_box(self, volumes: np.ndarray) -> np.ndarray:
        """Volumes [..., n, n, n] on the images' grid, [..., box, box, box], in image units."""
        return crop_or_pad_volume(volumes, self.info["box"])


def load_run(path: str | Path) -> Run:
    """Open a run directory for reading.

    Raises:
        InputError: there is no run.
    """
    directory = RunDirectory.open(path)
    return Run(directory, directory.read_json("run.json"))
