"""Whether a run's motion had been put together in the wrong order (`fitting.tears`)."""

from hypermol.fitting.found import Found
from hypermol.report.finding import Finding


def tears_finding(found: Found) -> Finding | None:
    """The verdict's sentence, where a chain's motion was laid anew."""
    done = {chain: orders for chain, orders in (found.tears or {}).items() if orders}
    if not done:
        return None
    told = "; ".join(f"chain {int(c) + 1}: {', then '.join(o)}" for c, o in done.items())
    return Finding(
        "note",
        "Pieces of the motion were laid in another order",
        f"The start had put stretches of the motion one after another that do not follow ({told}). "
        "They have the order now along which mass moves least. Images alone do not tell it: where "
        "few particles are in between, look whether the states on both sides belong together.",
    )
