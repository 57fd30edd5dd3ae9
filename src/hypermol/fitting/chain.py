"""A chain in a run directory: where it is, how it enters a stage, what is kept of it."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np

from hypermol.fitting import checkpoint
from hypermol.fitting.checkpoint import Checkpoint, named_leaves
from hypermol.fitting.found import Found, load_found
from hypermol.fitting.level import Form, Level
from hypermol.fitting.march import carry, first_state
from hypermol.fitting.stages import sweep_key
from hypermol.fitting.sweep import ChainState, Sweep, Tunings, init_tunings
from hypermol.imaging.blocks import from_blocks
from hypermol.io.errors import InputError
from hypermol.io.store import Arrays, RunDirectory
from hypermol.runtime import on_device

#: Keys of the steps between stages start here, past those of any sweep; that of a start in random
#: directions, and that of the orders that a motion is tried in.
_CARRIES, SCATTERS, MENDS = 1 << 30, (1 << 30) - 1, (1 << 30) - 2


class Standing(NamedTuple):
    """Where a chain stands: its unknowns, its kernels' tunings, and the sweeps done."""

    state: ChainState
    tunings: Tunings
    done: int

    def with_spectrum(self, spectrum: list[list[float]]) -> "Standing":
        """With the spectrum of theta's prior that all chains sample with; none where it has none.

        Raises:
            ValueError: it is of another molecule.
        """
        if not spectrum:
            return self
        shared, mu = on_device(spectrum), self.state.mu
        if shared.shape != mu.spectrum.shape:
            raise ValueError(f"a spectrum of {shared.shape}, but theta's is {mu.spectrum.shape}")
        mu = mu._replace(spectrum=shared, level=on_device(np.ones(len(shared))))
        return self._replace(state=self.state._replace(mu=mu))

    def flattened(self) -> "Standing":
        """With a loose L2 prior of theta (sec. 5): one precision for all shells of a term."""
        mu = self.state.mu
        power = np.mean(1.0 / np.asarray(mu.spectrum, np.float64), axis=1, keepdims=True)
        flat = np.broadcast_to(1.0 / power, mu.spectrum.shape)
        return self._replace(state=self.state._replace(mu=mu._replace(spectrum=on_device(flat))))

    def check_finite(self, stage: str) -> None:
        """Stop at the first number that is none.

        Raises:
            InputError: names it, and what it may come from.
        """
        finite = jax.device_get(_finite(self.state))
        broken = [name for name, fine in named_leaves(finite, "").items() if not fine]
        if broken:
            raise InputError(
                f"{broken[0].lstrip('.')} is not finite after sweep {self.done} ({stage}): look "
                "for particles with impossible optics or pixels, and for a recipe whose priors "
                "leave a scale free"
            )


@jax.jit
def _finite(state: ChainState) -> ChainState:
    return jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), state)


def sample_arrays(level: Level, state: ChainState, n: int) -> Arrays:
    """What a posterior sample keeps: theta, mu and the latents of the n particles.

    theta as the maps that show it, and as the parameters that they do not show (`motion.`).
    """
    latents = {name: from_blocks(value, n) for name, value in state.latents._asdict().items()}
    mu = {name: np.asarray(value) for name, value in state.mu._asdict().items()}
    parameters = named_leaves(level.molecule.parameters(state.theta), "motion")
    return {"maps": np.asarray(level.shown(state.theta)), **parameters, **latents, **mu}


@final
@dataclass
class ChainFiles:
    """The chains of a run, as its directory has them.

    Attributes:
        directory: of the run.
        seed: of everything random.
        starts: independent starts that the chains are shared out to.
        tries: whether chains are trials until one of them has been chosen.
        found: what all chains go by.
    """

    directory: RunDirectory
    seed: int
    starts: int
    tries: bool = False
    found: Found = field(init=False)

    def __post_init__(self) -> None:
        self.found = load_found(self.directory)

    def learn(self, **found: Any) -> None:
        """Keep what all chains go by from now on."""
        self.found = replace(self.found, **found)
        self.found.save(self.directory)

    def _name(self, chain: int) -> str:
        """Where a chain's checkpoint is, or that of a trial."""
        if self.tries and self.found.trial is None:
            return checkpoint.trial_name(chain)
        return checkpoint.chain_name(chain)

    def _saved(self, chain: int) -> Checkpoint | None:
        """A chain's checkpoint, else the end of the start that it parts from."""
        own = checkpoint.load(self.directory, self._name(chain))
        if own is not None:
            return own
        return checkpoint.load(self.directory, checkpoint.branch_name(chain % self.starts))

    def done(self, chain: int) -> int:
        """Sweeps that a chain has done."""
        saved = self._saved(chain)
        return 0 if saved is None else saved.done

    def tidy(self, chains: range) -> None:
        """Drop what was written of each chain after its checkpoint."""
        for chain in chains:
            done = self.done(chain)
            self.directory.truncate_trace(chain, done)
            self.directory.drop_samples_from(chain, done)

    def enter(
        self, chain: int, first: int, before: Form | None, level: Level, blocks: Sweep
    ) -> Standing:
        """A chain at a stage: where it was left in it, or carried over from the one before.

        Args:
            chain: its number.
            first: sweep that the stage begins with.
            before: form of the stage before, None for the first.
            level: the stage's.
            blocks: of the stage's sweep.
        """
        saved = self._saved(chain)
        fresh = first_state(level)
        if saved is None or (before is None and saved.done <= first):
            return Standing(fresh, init_tunings(blocks, fresh, level.data), first)
        if saved.done > first:
            state = checkpoint.restored_state(saved, level.molecule, fresh)
            tunings = init_tunings(blocks, state, level.data)
            return Standing(state, checkpoint.restored_tunings(saved, tunings), saved.done)
        assert before is not None
        state = checkpoint.restored_state(saved, before.molecule, fresh)
        if before.key != level.form.key:
            state = carry(sweep_key(self.seed, chain, _CARRIES + first), state, before, level)
        tunings = init_tunings(blocks, state, level.data)
        return Standing(state, checkpoint.carried_tunings(saved, tunings, blocks), first)

    def state(self, chain: int, level: Level) -> ChainState:
        """A chain's unknowns, as it left a level."""
        saved = self._saved(chain)
        assert saved is not None
        return checkpoint.restored_state(saved, level.molecule, first_state(level))

    def adopt(self, best: int) -> None:
        """Let the best of some trials be every start."""
        arrays = self.directory.read_arrays(checkpoint.trial_name(best))
        for start in range(self.starts):
            self.directory.write_arrays(checkpoint.branch_name(start), arrays)

    def save(self, chain: int, at: Standing) -> None:
        """Write a chain's checkpoint over its last one."""
        checkpoint.save(self.directory, self._name(chain), *at)

    def branch(self, start: int, at: Standing) -> None:
        """Keep the end of a start, for chains that part from it, now or in a later call."""
        checkpoint.save(self.directory, checkpoint.branch_name(start), *at)

    def keep_hand(self, start: int, density: np.ndarray) -> None:
        """Keep the map of one hand that a start is to begin again with."""
        self.directory.write_arrays(checkpoint.hand_name(start), {"density": density})

    def one_hand(self, start: int) -> np.ndarray:
        """That map, [n, n, n]."""
        return self.directory.read_arrays(checkpoint.hand_name(start))["density"]

    def keep(self, chain: int, at: Standing, level: Level, n: int) -> None:
        """Write a posterior sample."""
        name = self.directory.sample_name(chain, at.done - 1)
        self.directory.write_arrays(name, sample_arrays(level, at.state, n))

    def mean_spectrum(self, chains: range) -> list[list[float]]:
        """Of theta's Gaussian prior, one for all chains: the mean of their log spectra."""
        logs = []
        for chain in chains:
            saved = self._saved(chain)
            if saved is not None:
                spectrum = np.asarray(saved.arrays["state.mu.spectrum"], np.float64)
                logs.append(np.log(spectrum / saved.arrays["state.mu.level"][:, None]))
        return np.exp(np.mean(logs, axis=0)).tolist()
