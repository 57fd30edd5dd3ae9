"""What a run's first stages learned from the data, and all of its chains go by from then on."""

from dataclasses import asdict, dataclass, replace
from typing import Any, final

from hypermol.analysis.hands import HandStanding
from hypermol.io.store import RunDirectory

_FILE = "found.json"
#: Below this correlation a model's first density does not tell where it stands.
_TELLS = 0.5
#: Sides are told apart by so many standard errors of their gain; and what they differ by is its own
#: mirror image with the sign changed, at least so nearly.
_CLEARLY, _REVERSED = 5.0, -0.4


@final
@dataclass(frozen=True)
class FrameStanding:
    """How a search's map stands to a molecule of the user's own, before that has seen an image.

    Attributes:
        agreement: correlation of the two, turned and mirrored as fits best.
        mirrored: whether the search had found the other hand.
    """

    agreement: float
    mirrored: bool

    @property
    def is_clear(self) -> bool:
        """Whether the model tells where it stands; else the map is left in its own frame."""
        return self.agreement >= _TELLS


@final
@dataclass(frozen=True)
class Unfolding:
    """What was found of two sides.

    Attributes:
        gain: log-likelihood in nats that telling two sides apart adds to an image, by a density
            that was found without it; mean.
        gain_error: its standard error.
        mirrored_difference: correlation of what the sides differ by with its mirror image: -1 of
            sides that are mirror images; None where there are no sides.
        turn: state u and the mirror image of state turn - u are alike; None where there are none.
    """

    gain: float
    gain_error: float
    mirrored_difference: float | None = None
    turn: float | None = None

    @property
    def has_sides(self) -> bool:
        """Whether the images fall in two kinds."""
        return self.gain > _CLEARLY * self.gain_error

    @property
    def is_clear(self) -> bool:
        """Whether the motion was folded, and was unfolded."""
        alike = self.mirrored_difference
        return self.has_sides and alike is not None and alike < _REVERSED


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
        hands: of each start, how its states stood to one another's hand (`analysis.hands`), None
            before.
        unfolding: of starts whose molecule is nearly its own mirror image, whether half of its
            motion had been taken for mirror images (`unfolding`), None before.
        tears: of each chain, how the pieces of its motion were laid anew (`tears`), None before.
        frame: how the map of a search stood to a molecule of the user's own, None before.
        n_terms: how far state terms are to rise, None before it is known.
        terms_tell: what the highest explained of an image, in nats, by how many there were.
        log_gain: of a molecule of the user's own (`molecule.by_fourier`), None before its start.
        spectrum: of theta's Gaussian prior while sampling, [T][n_shells + 1], None before.
        chains: how many there are to be, where samples of fewer were worth too little.
    """

    radius_angstrom: float | None = None
    trial: int | None = None
    trial_scores: list[float] | None = None
    point_groups: list[dict[str, Any]] | None = None
    hands: dict[str, HandStanding] | None = None
    unfolding: dict[str, Unfolding] | None = None
    tears: dict[str, list[str]] | None = None
    frame: FrameStanding | None = None
    n_terms: int | None = None
    terms_tell: dict[str, float] | None = None
    log_gain: float | None = None
    spectrum: list[list[float]] | None = None
    chains: int | None = None

    def is_mixed(self, start: int) -> bool:
        """Whether some states of a start had the other hand."""
        standing = (self.hands or {}).get(str(start))
        return standing is not None and standing.is_mixed

    @property
    def any_mixed(self) -> bool:
        """Whether those of any had."""
        return any(standing.is_mixed for standing in (self.hands or {}).values())

    @property
    def was_unfolded(self) -> bool:
        """Whether the motion was, of every start that was asked."""
        asked = (self.unfolding or {}).values()
        return bool(asked) and all(standing.is_clear for standing in asked)

    def save(self, directory: RunDirectory) -> None:
        """Write found.json."""
        hands = {start: standing._asdict() for start, standing in (self.hands or {}).items()}
        directory.write_json(_FILE, asdict(replace(self, hands=None)) | {"hands": hands})


def load_found(directory: RunDirectory) -> Found:
    """What the run has found so far."""
    if not directory.has(_FILE):
        return Found()
    known = directory.read_json(_FILE)
    stored: dict[str, dict[str, Any]] = known.pop("hands", None) or {}
    hands = {start: HandStanding(**standing) for start, standing in stored.items()}
    frame = known.pop("frame", None)
    frame = FrameStanding(**frame) if frame else None
    sides: dict[str, dict[str, Any]] = known.pop("unfolding", None) or {}
    unfolding = {start: Unfolding(**standing) for start, standing in sides.items()}
    return Found(**known, hands=hands or None, unfolding=unfolding or None, frame=frame)
