"""What a check of the verdict says."""

from typing import NamedTuple

from hypermol.report.convergence import Weight


class Finding(NamedTuple):
    """One sentence or two of the verdict.

    Attributes:
        weight: "good": as it should be; "note": worth knowing; "warning": look before trusting.
        title: a few words, without a full stop.
        text: sentences.
    """

    weight: Weight
    title: str
    text: str
