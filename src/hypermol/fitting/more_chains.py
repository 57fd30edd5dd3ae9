"""How many chains a run has: more, until its samples are worth enough, or its budget is spent."""

from collections.abc import Sequence

from hypermol.analysis.independence import WANTED, worth
from hypermol.analysis.run import load_run
from hypermol.fitting.stages import Stage
from hypermol.io.store import RunDirectory
from hypermol.recipe.budget import read_budget
from hypermol.recipe.options import FitOptions


def is_enough(worths: dict[str, float]) -> bool:
    """Whether intervals of 90 % can be told from samples that are worth so many (`worth`)."""
    return bool(worths) and min(worths.values()) >= WANTED


def wanted_chains(
    directory: RunDirectory, options: FitOptions, stages: Sequence[Stage], chains: int
) -> int:
    """Chains that a run with `chains` that are done is to have.

    At most twice as many: what they are worth then is asked again.

    Args:
        directory: of the run, which has a trace and samples of all of them.
        options: with a budget, or there are to be no more.
        stages: of the schedule.
        chains: how many there are.
    """
    if options.budget is None or is_enough(worth(load_run(directory.path))):
        return chains
    return min(2 * chains, _affordable(directory, options, stages, chains))


def _affordable(
    directory: RunDirectory, options: FitOptions, stages: Sequence[Stage], chains: int
) -> int:
    """Chains that the budget is enough for; no fewer than there are."""
    minutes, sweeps = read_budget(options.budget or "")
    if sweeps is not None:
        return max(chains, sweeps // (options.samples * options.thin))
    assert minutes is not None
    own = {stage.name for stage in stages if not (stage.is_shared or stage.is_trial)}
    trace = directory.read_trace()
    spent = sum(record["seconds"] for record in trace)
    a_chain = sum(record["seconds"] for record in trace if record["stage"] in own) / chains
    return chains + max(0, int((60.0 * minutes - spent) / max(a_chain, 1e-9)))
