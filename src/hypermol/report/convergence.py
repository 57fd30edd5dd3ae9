"""R-hat and effective sample sizes in words."""

from typing import Literal, NamedTuple

import numpy as np

from hypermol.analysis.chains import n_samples
from hypermol.analysis.convergence import diagnose
from hypermol.analysis.diagnostics import split_rhat
from hypermol.analysis.run import Run

#: Vehtari et al. (2021) ask for 1.01; up to 1.05 means are usable, above that chains differ.
RHAT_GOOD, RHAT_USABLE = 1.01, 1.05
ESS_PER_CHAIN = 100

#: How an R-hat reads; the words of the verdict's marks.
Weight = Literal["good", "note", "warning"]

_NAMES = {
    "density_functional": "density: random functionals",
    "particle_state": "particles' states",
    "occupancy": "occupancy of each bin",
    "level": "prior level of each term",
    "noise_variance": "noise variance of each shell",
    "contrast_sd": "contrast spread",
    "pose_sd_rad": "pose spread (rotation)",
    "shift_sd_px": "pose spread (shift)",
    "misplaced": "shares of misplaced poses",
    "misplaced_shift_sd_px": "spread of misplaced shifts",
}
#: Groups so large that their worst member exceeds any limit by chance: the median is judged.
_JUDGED_BY_MEDIAN = ("particle_state",)
_CHANCE_DRAWS = 2000
_LONG_CHAIN = 300


class Convergence(NamedTuple):
    """R-hat and ESS of a group of quantities.

    Attributes:
        name: of the group.
        n: quantities in the group.
        rhat: median and worst.
        ess: median and least.
        judged: the R-hat that the group is judged by.
        chance: what `judged` reaches by chance (1 in 100) for perfect chains of this length.
    """

    name: str
    n: int
    rhat: tuple[float, float]
    ess: tuple[float, float]
    judged: float
    chance: float

    @property
    def weight(self) -> Weight:
        """Converged, usable or not."""
        if self.judged <= RHAT_GOOD:
            return "good"
        return "note" if self.judged <= max(RHAT_USABLE, self.chance) else "warning"

    @property
    def words(self) -> str:
        """The same in words; short chains cannot be told from chains that differ a little."""
        if self.weight == "note":
            return "usable" if self.judged <= RHAT_USABLE else "too few draws to tell"
        return "converged" if self.weight == "good" else "not converged"


def chance_rhat(chains: int, draws: int, n: int) -> float:
    """R-hat that the worst of n quantities reaches once in 100 runs of perfect chains."""
    if draws > _LONG_CHAIN:
        return 1.0
    white = np.random.default_rng(0).standard_normal((chains, draws, _CHANCE_DRAWS))
    return float(np.quantile(split_rhat(white), 0.99 ** (1.0 / n)))


def convergence_table(run: Run) -> list[Convergence]:
    """Diagnostics by group, the density first; empty with fewer than four draws per chain.

    diagnostics.json is used where it speaks of the same samples.
    """
    total = n_samples(run)
    stored = run.directory.has("diagnostics.json")
    report = run.directory.read_json("diagnostics.json") if stored else {}
    if report.get("n_samples") != total:
        report = diagnose(run)
    found = report["quantities"]
    order = {name: place for place, name in enumerate(_NAMES)}
    ordered = sorted(found, key=lambda name: order.get(_group(name)[0], len(order)))
    shape = report["n_chains"], report["n_draws_per_chain"]
    return [_row(name, found[name], shape) for name in ordered]


def _group(name: str) -> tuple[str, str]:
    """Quantity and knob of "quantity[knob]"; no knob where there is but one."""
    quantity, _, knob = name.partition("[")
    return quantity, knob.rstrip("]")


def _row(name: str, values: dict[str, float], shape: tuple[int, int]) -> Convergence:
    rhat = values["rhat_median"], values["rhat_worst"]
    quantity, knob = _group(name)
    by_median = quantity in _JUDGED_BY_MEDIAN
    words = _NAMES.get(quantity, quantity.replace("_", " "))
    n = int(values["n"])
    return Convergence(
        f"{words} ({knob})" if knob else words,
        n,
        rhat,
        (values["bulk_ess_median"], values["bulk_ess_worst"]),
        rhat[0] if by_median else rhat[1],
        chance_rhat(*shape, 1 if by_median else n),
    )
