"""What the diagnostics say in plain words: each finding one sentence or two, with its weight."""

from collections.abc import Callable, Mapping

import numpy as np
import scipy

from hypermol.fitting.found import load_found
from hypermol.report.convergence import ESS_PER_CHAIN, RHAT_GOOD, RHAT_USABLE
from hypermol.report.evidence import Evidence
from hypermol.report.finding import Finding
from hypermol.report.hands import hands_finding
from hypermol.report.leak import NOTABLE
from hypermol.report.poses import poses_finding
from hypermol.report.resolution import support_radius
from hypermol.report.tears import tears_finding
from hypermol.report.worth import worth_finding

_EDGE_SHARE = 0.02
_CHANGE_IN_SD = 4.0
_AGREEMENT = 0.9
_FEW_SAMPLES, _MIN_SAMPLES = 20, 4
#: Contrasts have 1 as the middle of their prior. Farther from it by such a factor is worth a note,
#: or a warning; an image's is strange if it is this far from the median, as a share of it, and by
#: so many robust sd.
_CONTRAST_NOTED, _CONTRAST_FAR = 1.25, 2.0
_CONTRAST_STRANGE, _CONTRAST_ROBUST_SD = 0.8, 8.0
_NAMED = 5


def findings(evidence: Evidence) -> list[Finding]:
    """All findings, in the order of the page."""
    rules: tuple[Callable[[Evidence], Finding | None], ...] = (
        _samples,
        _convergence,
        _chains,
        lambda evidence: worth_finding(evidence.run),
        _motion,
        lambda evidence: hands_finding(evidence.hands, load_found(evidence.run.directory)),
        lambda evidence: tears_finding(load_found(evidence.run.directory)),
        _certainty,
        _dependence,
        _leaks,
        _resolution,
        _support,
        _contrast,
        poses_finding,
    )
    return [found for found in (rule(evidence) for rule in rules) if found is not None]


def headline(found: list[Finding]) -> str:
    """The verdict in one sentence."""
    warnings = [finding.title for finding in found if finding.weight == "warning"]
    if not warnings:
        return "None of the checks below speaks against these results."
    if len(warnings) == 1:
        return f"One thing to look at before trusting the results: {warnings[0].lower()}."
    listed = ", ".join(title.lower() for title in warnings[:-1])
    return (
        f"{len(warnings)} things to look at before trusting the results: "
        f"{listed} and {warnings[-1].lower()}."
    )


def _samples(evidence: Evidence) -> Finding:
    total, chains = evidence.n_samples, len(evidence.run.chains)
    text = f"{total} posterior samples from {chains} chain{'s' if chains > 1 else ''}."
    if not evidence.run.info.get("finished", False):
        return Finding(
            "warning",
            "The run is not finished",
            f"{text} The fit is still going or was interrupted: go on with it by --resume.",
        )
    if total < _FEW_SAMPLES:
        return Finding(
            "note",
            "Few samples",
            f"{text} Means are usable; the ends of 90 % bands are rough. Go on with the run: "
            "`hypermol fit` with --resume and more --samples.",
        )
    return Finding("good", "Samples", text)


def _convergence(evidence: Evidence) -> Finding:
    title = "Convergence of the chains"
    if not evidence.convergence:
        return Finding(
            "warning",
            "Convergence is not known",
            "R-hat and effective sample sizes need at least four samples per chain.",
        )
    worst = max(evidence.convergence, key=lambda row: row.judged / max(row.chance, RHAT_USABLE))
    least = min(row.ess[0] for row in evidence.convergence)
    wanted = ESS_PER_CHAIN * len(evidence.run.chains)
    text = (
        f"The most telling R-hat is {worst.judged:.2f} ({worst.name}); every group of quantities "
        f"has at least {least:.0f} effective samples (median)."
    )
    if worst.weight == "warning":
        return Finding(
            "warning",
            "The chains have not converged",
            f"{text} Chains, or the halves of a chain, still differ by more than chance: run "
            "longer before reading the error bars: a new run with more --burn-in, or --resume with "
            "more --samples.",
        )
    if worst.judged > RHAT_USABLE:
        text += (
            f" Perfect chains this short would reach {worst.chance:.2f}, so nothing speaks against "
            "convergence, but more samples are needed to show it."
        )
        return Finding("note", title, text)
    if worst.weight == "note" or least < wanted:
        return Finding(
            "note",
            title,
            f"{text} Means are reliable; for bands to two digits aim at R-hat below {RHAT_GOOD} "
            f"and at {wanted} effective samples.",
        )
    return Finding("good", title, text)


def _chains(evidence: Evidence) -> Finding | None:
    if len(evidence.run.chains) == 1:
        return Finding(
            "note",
            "Only one chain",
            "A single chain cannot tell whether another start would have led elsewhere: "
            "run at least two.",
        )
    agreements = {f.knob.name: f.agreement for f in evidence.knobs if f.agreement is not None}
    if not agreements:
        return None
    text = f"Particles' mean states agree between chains: {_listed(agreements)} (1 is perfect)."
    if evidence.swapped:
        chains = ", ".join(str(chain + 1) for chain in evidence.swapped)
        return Finding(
            "warning",
            "Chains disagree about which copy is which",
            f"{text} In chain {chains} the copies of a part look like other copies in the first "
            "chain. The same molecule in another order has turned poses too, which pooling does "
            "not undo: means over all chains mix the two. Read the chains apart.",
        )
    if min(agreements.values()) < _AGREEMENT:
        text += " Either they found different motions, or the states are very uncertain."
        return Finding("warning", "The chains disagree about the states", text)
    return Finding("good", "Agreement of the chains", text)


def _listed(values: Mapping[str, float]) -> str:
    """Numbers with their knobs' names, where there are several."""
    if len(values) == 1:
        return f"{next(iter(values.values())):.2f}"
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())


def _motion(evidence: Evidence) -> Finding | None:
    if not evidence.has_states:
        return None
    if evidence.n_samples < _MIN_SAMPLES:
        return Finding(
            "note",
            "Motion cannot be judged",
            f"Error bars of the density need at least {_MIN_SAMPLES} samples.",
        )
    # the same chance as 4 sd of a normal has, when the sd itself comes from few samples
    limit = float(scipy.stats.t.isf(scipy.stats.norm.sf(_CHANGE_IN_SD), evidence.n_samples - 1))
    density = evidence.density
    inside = density.radius_angstrom < support_radius(evidence.run)
    change, sd = density.change[:, inside], density.change_sd[:, inside]
    clear = np.abs(change) > limit * np.where(sd > 0, sd, np.inf)
    share = float(clear.any(axis=0).mean())
    names = ", ".join(found.knob.name for found in evidence.knobs)
    size = float(np.sqrt((change**2).mean() / (density.average[inside] ** 2).mean()))
    text = (
        f"The density changes along {names} by {100 * size:.0f} % of its "
        f"own rms; {100 * share:.1f} % of the voxels in the support change by more than "
        f"{limit:.1f} posterior sd at some state."
    )
    if share < 0.002:
        return Finding(
            "warning",
            "No clear motion",
            f"{text} That is little more than chance: a rigid model may serve these data as well.",
        )
    return Finding("good", "Motion", text)


def _certainty(evidence: Evidence) -> Finding | None:
    if not evidence.knobs:
        return None
    typical = {f.knob.name: float(np.median(f.state_sd)) for f in evidence.knobs}
    spread = {f.knob.name: f.spread for f in evidence.knobs}
    told = ", ".join(
        f"{name} to ±{sd:.2f} (all particles together spread by {spread[name]:.2f})"
        for name, sd in typical.items()
    )
    text = f"A typical particle's state is known: {told}."
    unsure = [name for name in typical if typical[name] > 0.8 * spread[name]]
    if unsure:
        which = "" if len(typical) == 1 else f" ({', '.join(unsure)})"
        return Finding(
            "warning",
            f"Single particles' states are hardly known{which}",
            f"{text} Densities and occupancy pool many particles and may still be right, but do "
            "not sort or select particles by state.",
        )
    return Finding("good", "States of single particles", text)


def _dependence(evidence: Evidence) -> Finding | None:
    """Whether the knobs turn together: a result, and neither good nor bad."""
    if not evidence.dependences:
        return None
    told = "; ".join(
        f"{found.first.name} and {found.second.name} {found.mean:.2f} ± {found.sd:.2f} "
        f"({found.measure}, {'dependent' if found.is_significant else 'within chance'})"
        for found in evidence.dependences
    )
    return Finding("good", "Dependence of the states on each other", f"{told}.")


def _leaks(evidence: Evidence) -> Finding | None:
    leaks = [(found.knob.name, leak) for found in evidence.knobs for leak in found.leaks]
    if not leaks:
        return None
    strong = [(knob, leak) for knob, leak in leaks if leak.is_significant]
    if not strong:
        return Finding(
            "good",
            "Independence of the state",
            "The state does not follow viewing direction, in-plane angle, shift, contrast or "
            "defocus beyond chance.",
        )
    worst = max((leak for _, leak in strong), key=lambda leak: leak.strength)
    several = len(evidence.knobs) > 1
    names = ", ".join(
        f"{f'{knob} with ' if several else ''}{leak.name} ({leak.strength:.2f})"
        for knob, leak in strong
    )
    text = f"Beyond chance the state follows {names}."
    if worst.strength < NOTABLE:
        return Finding("note", "Slight dependence of the state", f"{text} The effect is small.")
    return Finding(
        "warning",
        "The state follows the imaging",
        f"{text} Either views were mistaken for states, or states prefer orientations on the "
        "grid: compare the densities of one state seen from different directions.",
    )


def _resolution(evidence: Evidence) -> Finding | None:
    halves = evidence.halves
    if halves is None:
        return Finding(
            "note", "No half maps", "The run has no half-set maps, so no FSC can be given."
        )
    if halves.problems:
        return Finding(
            "warning",
            "The half maps tell no resolution",
            f"At some state {' or '.join(halves.problems)}. Look at how the half sets were made "
            "and at the maps before trusting any detail.",
        )
    low, high = halves.resolution_angstrom.min(), halves.resolution_angstrom.max()
    if halves.reaches_limit.all():
        return Finding(
            "note",
            "Resolution",
            f"Half sets agree at every state up to the modelled limit of {low:.1f} Å: a finer "
            "--resolution may show more.",
        )
    span = f"{low:.1f} Å"
    if high > 1.02 * low:
        span = f"{low:.1f} to {high:.1f} Å, depending on the state"
    return Finding(
        "good",
        "Resolution",
        f"Half-set FSC falls below 0.143 at {span}. Poses and states were estimated from all "
        "particles together, so this is not a gold-standard figure.",
    )


def edge_share(evidence: Evidence) -> float:
    """Share of the support's outermost shell with clear density (over 4 sd and 15 % of peak)."""
    density = evidence.density
    radius = support_radius(evidence.run)
    distance = density.radius_angstrom
    shell = (distance <= radius) & (distance > radius - 1.5 * density.voxel_size_angstrom)
    peak = np.percentile(density.mean, 99.9)
    mean, sd = density.mean[:, shell], density.sd[:, shell]
    clear = (mean > 4.0 * sd) & (mean > 0.15 * peak)
    return float(clear.any(axis=0).mean()) if shell.any() else 0.0


def _support(evidence: Evidence) -> Finding:
    share, radius = edge_share(evidence), support_radius(evidence.run)
    if share > _EDGE_SHARE:
        return Finding(
            "warning",
            "Density touches the support",
            f"{100 * share:.1f} % of the edge of the ball of {radius:.0f} Å that holds the "
            "molecule has clear density: fit again with a larger --radius.",
        )
    return Finding(
        "good", "Support", f"The molecule lies within its ball of {radius:.0f} Å radius."
    )


def _contrast(evidence: Evidence) -> Finding:
    density = evidence.density
    inside = density.radius_angstrom < support_radius(evidence.run)
    values = density.average[inside].astype(np.float64)
    centred = values - values.mean()
    skewness = float((centred**3).mean() / max((centred**2).mean(), 1e-300) ** 1.5)
    contrast = np.asarray(evidence.particles.contrast, dtype=np.float64)
    mean = float(np.mean(contrast))
    if skewness < 0.0 or mean < 0.0:
        return Finding(
            "warning",
            "The contrast may be inverted",
            f"The density has a long tail of negative values (skewness {skewness:.1f}): if the "
            "particles are dark on light ground, fit again with --invert-contrast.",
        )
    told = f"The density is positive (skewness {skewness:.1f}); contrasts average {mean:.2f}"
    strange = _strange_contrasts(contrast)
    if len(strange):
        named = ", ".join(str(row + 1) for row in strange[:_NAMED])
        more = " and others" if len(strange) > _NAMED else ""
        return Finding(
            "warning",
            "Contrasts of some images are far from the others'",
            f"{told}, but {len(strange)} particles' are far from that ({named}{more}, in the "
            "order of particles.star): look at these images, and leave them out if they are bad.",
        )
    distance = max(mean, 1.0 / max(mean, 1e-300))
    if not distance <= _CONTRAST_NOTED:
        far = not distance <= _CONTRAST_FAR
        return Finding(
            "warning" if far else "note",
            "Contrasts are far from 1",
            f"{told}, though 1 is the middle of their prior: the grey scales of the images may "
            "differ, or a few images outweigh the rest (hypermol check looks for both).",
        )
    return Finding("good", "Contrast", f"{told}.")


def _strange_contrasts(contrast: np.ndarray) -> np.ndarray:
    """Indices of the contrasts [N] that lie far from the others."""
    middle = np.median(contrast)
    distance = np.abs(contrast - middle)
    spread = 1.4826 * np.median(distance)
    limit = max(_CONTRAST_STRANGE * abs(middle), _CONTRAST_ROBUST_SD * spread)
    return np.flatnonzero(distance > limit)
