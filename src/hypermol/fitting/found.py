"""What a run's first stages learned from the data, and all of its chains go by from then on."""

from dataclasses import asdict, dataclass
from typing import Any, final

from hypermol.io.store import RunDirectory

_FILE = "found.json"


@final
@dataclass(frozen=True)
class Found:
    """Constants of the run's posterior that are estimated once.

    Attributes:
        radius_angstrom: of the molecule's support, None before the first map.
        trial, trial_scores: the search that went on, and the held-out score of each (mean
            log-likelihood of an image); None before.
        point_groups: what a search found of each candidate, best first
            (`point_group.GroupStanding`); None before.
        log_gain: of a molecule of the user's own (`molecule.by_fourier`), None before its start.
        spectrum: of theta's Gaussian prior while sampling, [T][n_shells + 1], None before.
    """

    radius_angstrom: float | None = None
    trial: int | None = None
    trial_scores: list[float] | None = None
    point_groups: list[dict[str, Any]] | None = None
    log_gain: float | None = None
    spectrum: list[list[float]] | None = None

    def save(self, directory: RunDirectory) -> None:
        """Write found.json."""
        directory.write_json(_FILE, asdict(self))


def load_found(directory: RunDirectory) -> Found:
    """What the run has found so far."""
    return Found(**directory.read_json(_FILE)) if directory.has(_FILE) else Found()
