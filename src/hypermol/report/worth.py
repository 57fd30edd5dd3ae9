"""Whether there are samples enough for the intervals of single particles."""

from hypermol.analysis.independence import WANTED, worth
from hypermol.analysis.run import Run
from hypermol.report.finding import Finding

#: Of n independent samples the first and the last hold (n - 1) / (n + 1): 71 % of so many.
_FEW = 6.0
#: Where poses may be anywhere chains part late, and keep some of what they shared.
_PARTING_LATE = ("search", "rescue", "start")


def worth_finding(run: Run) -> Finding | None:
    """The verdict's sentence; None where nothing of a particle moves, or a single chain
    does not tell."""
    found = worth(run)
    if not found:
        return None
    told = ", ".join(f"{name} {value:.0f}" for name, value in found.items())
    text = (
        f"All samples of a typical particle are worth so many independent ones: {told}. The ends "
        f"of a 90 % interval need {WANTED:.0f}."
    )
    least = min(found.values())
    late = run.info["poses"] in _PARTING_LATE
    if late:
        text += (
            " Chains that share a search keep some of it for long, and are worth less than that: "
            "intervals are too narrow even so."
        )
    if least >= WANTED:
        return Finding("note" if late else "good", "Samples of single particles", text)
    chains = max(round(len(run.chains) * WANTED / least), len(run.chains) + 1)
    return Finding(
        "warning" if least < _FEW else "note",
        "Intervals of single particles are too narrow",
        f"{text} Chains stand at places of their own, so it takes more of them: go on with "
        f"--resume and about --chains {chains}, or a --budget. Means, densities and occupancies "
        "need fewer.",
    )
