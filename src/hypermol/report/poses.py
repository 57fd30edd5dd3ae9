"""What the report says of poses: how far they moved, how well they are known, and whether the input
holds them more than the images do."""

import numpy as np

from hypermol.analysis.run import Run
from hypermol.report.evidence import Evidence
from hypermol.report.finding import Finding
from hypermol.report.particles import pose_change

#: Draws of a pose that spread by more than this share of the prior about the input's, in rotation
#: and in shift, are held by it, not by the image.
_HELD = 0.6


def poses_finding(evidence: Evidence) -> Finding | None:
    """Change, precision, shares of misplaced ones, and what holds them; None without an input."""
    run, particles = evidence.run, evidence.particles
    if run.info["poses"] == "fixed":
        return Finding(
            "note",
            "Poses were held fixed",
            "Errors of the input poses blur the density and are not part of the error bars.",
        )
    if evidence.given is None:
        return None
    angle, distance = pose_change(particles, evidence.given)
    turn, slip = np.median(particles.pose_sd_deg), np.median(particles.shift_sd_px)
    text = (
        f"Refinement turned particles by {np.median(angle):.1f}° and moved them by "
        f"{np.median(distance):.2f} px (medians); they are known to {turn:.1f}° and "
        f"{slip:.2f} px.{misplaced(run)}"
    )
    held = held_by_input(run, float(turn), float(slip))
    if held:
        return Finding("warning", "Poses are held by the input's", f"{text} {held}")
    return Finding("good", "Poses", text)


def held_by_input(run: Run, turn_deg: float, slip_px: float) -> str:
    """What to do where the prior about the input's poses, and not the images, says how well poses
    are known; nothing otherwise.

    Args:
        run: any.
        turn_deg: root mean square angle of a particle's draws, in the middle of all.
        slip_px: the same of its shift, along an axis.
    """
    if run.info["poses"] not in ("refine", "rescue"):
        return ""
    turns = float(np.degrees(run.pooled("pose_sd_rad").mean()))
    slips = float(run.pooled("shift_sd_px").mean())
    # both: good input leaves images little to say of the one or the other, seldom of both
    if min(turn_deg / (np.sqrt(3.0) * turns), slip_px / slips) < _HELD:
        return ""
    return (
        f"They are taken to scatter about the input's by {turns:.1f}° and {slips:.2f} px an axis, "
        "hardly more than what is left of that in the end: the input says more of them than the "
        "images. Poses that were refined with these very images are counted twice so, and their "
        "error bars are too narrow; compare with --poses start, which only begins there."
    )


def misplaced(run: Run) -> str:
    """What a rescue says of the input's poses; nothing otherwise."""
    if run.info["poses"] != "rescue":
        return ""
    shares = 100.0 * run.pooled("misplaced")
    words = [
        f"{np.mean(share):.1f} % (90 % interval {low:.1f} to {high:.1f})"
        for share in shares.T
        for low, high in [np.quantile(share, (0.05, 0.95))]
    ]
    near, wide = (np.mean(run.pooled(n)) for n in ("shift_sd_px", "misplaced_shift_sd_px"))
    return (
        f" The input's rotations of {words[0]} of the particles had nothing to do with where they "
        f"were found; its shifts of {words[1]} were further off than those of the others "
        f"({wide:.1f} px an axis, {near:.1f} px)."
    )
