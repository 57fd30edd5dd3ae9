"""How a search from nothing, or a rescue, went: trials and their scores, axes and their rivals,
and who jumped when."""

import numpy as np

from hypermol.fitting.found import Unfolding, load_found
from hypermol.fitting.point_group import GroupStanding
from hypermol.report.evidence import Evidence
from hypermol.report.figures_sampler import stage_names
from hypermol.report.page import Block, Heading, Paragraph, Section, Table

#: Sweeps that the beginning and the end of a stage are judged by.
_ENDS = 3
#: Draws of one particle agree where so many of them are about one pose.
_AGREE = 0.9


def search(evidence: Evidence) -> list[Section]:
    """The section; none for runs whose poses could not be anywhere."""
    if not any("jumped" in line or "placed" in line for line in evidence.trace):
        return []
    parts: list[Block] = [
        *_trials(evidence),
        *_groups(evidence),
        *_frame(evidence),
        *_hands(evidence),
        *_stages(evidence),
    ]
    places = float(np.mean(evidence.particles.pose_share < _AGREE))
    parts.append(
        Paragraph(
            f"{places:.1%} of the particles were found in places far apart: fewer than "
            f"{_AGREE:.0%} of their draws are about one pose. Their means are of the most frequent "
            "one (hypermolPoseShare in particles.star)."
        )
    )
    return [Section("search", "Where poses were looked for", parts)]


def _trials(evidence: Evidence) -> list[Block]:
    """Which trial went on, and why."""
    found = load_found(evidence.run.directory)
    scores = found.trial_scores
    if scores is None:
        return []
    rows = [
        (
            str(trial + 1),
            f"{score:.2f}",
            f"{score - max(scores):+.2f}",
            "went on" if trial == found.trial else "",
        )
        for trial, score in enumerate(scores)
    ]
    text = (
        f"{len(scores)} independent searches began with an empty map and different random numbers. "
        "The one that predicts the images held out best went on. Scores compare the trials with "
        "one another: they do not say that the best is right."
    )
    header = ("trial", "log-likelihood of an image held out", "to the best", "")
    return [Heading("Trials"), Paragraph(text), Table(header, rows)]


#: Candidates that are shown.
_SHOWN = 6


def _groups(evidence: Evidence) -> list[Block]:
    """Which point group was found, and its rivals."""
    found = load_found(evidence.run.directory).point_groups
    if not found:
        return []
    groups = [GroupStanding(**standing) for standing in found]
    rows = [
        (g.group, f"{g.gain:+.3f} +- {g.gain_error:.3f}", f"{g.agreement:.2f}")
        for g in groups[:_SHOWN]
    ]
    best = groups[0]
    text = (
        "The rigid map was averaged over its copies under each group, about the axes where they "
        "agree best, and asked for the images held out: with the right group it predicts them "
        "better than as it is (C1, 0), with a wrong one worse. "
    )
    if best.is_clear:
        text += f"{best.group} predicts them best; the frame has its main axis along z. "
        if len(groups) > 1:
            text += (
                f'A part of a composite with symmetry = "{best.group}" has such copies, each with '
                "a state of its own."
            )
    elif len(groups) > 1:
        text += "None is clearly better than no symmetry, and the map was left as it stood."
    else:
        text += (
            f"The model has copies under {best.group} and was turned to its axes, though a rigid "
            "map of these images is not clearly symmetric. Equal parts that move each on its own "
            "leave such a map, which puts the more open one of every image on one side; a molecule "
            "without the symmetry does too."
        )
    header = ("group", "gain in log-likelihood of an image held out", "agreement of copies")
    return [Heading("Symmetry"), Paragraph(text), Table(header, rows)]


def _frame(evidence: Evidence) -> list[Block]:
    """How the search's map stood to a molecule of the user's own."""
    frame = load_found(evidence.run.directory).frame
    if frame is None:
        return []
    text = (
        "A search has a frame of its own, and either hand. Its rigid map was laid onto the model "
        "as it is before it has seen an image, all rotations and both hands tried: they correlate "
        f"by {frame.agreement:.2f}"
    )
    if not frame.is_clear:
        text += (
            ", too little to say where the model stands, and the map was left in its own frame. A "
            "model whose first density is that of no molecule stands anywhere; one that begins "
            "with a structure should have been found, and the states below are not to be trusted."
        )
    elif frame.mirrored:
        text += "; the map was mirrored and turned to where the model stands."
    else:
        text += "; the map was turned to where the model stands."
    return [Heading("Frame of the model"), Paragraph(text)]


def _hands(evidence: Evidence) -> list[Block]:
    """Whether states had two hands while the search went on, and what was done."""
    found = load_found(evidence.run.directory)
    known, unfolding = found.hands, found.unfolding or {}
    if not known:
        return []
    done = {start: "unfolded" for start, standing in unfolding.items() if standing.is_clear}
    rows = [
        (
            str(int(start) + 1),
            ", ".join(f"{value:.2f}" for value in standing.kept),
            ", ".join(f"{value:.2f}" for value in standing.mirrored),
            "began again" if standing.is_mixed else done.get(start, "one hand"),
        )
        for start, standing in known.items()
    ]
    text = (
        "With few terms of the states, maps of states that are far apart were compared with the "
        "strongest one, turned as fits best, and so were their mirror images. Where a mirror image "
        "agrees clearly better, the model may show the molecule and its reflection as two states, "
        "for no image tells one from the other: the search then began again with one state's map. "
        "A molecule that does move between mirror images of itself is found to do so again."
    )
    header = ("start", "agreement of states", "of their mirror images", "")
    blocks: list[Block] = [Heading("Hands"), Paragraph(text), Table(header, rows)]
    return blocks + ([_unfolding(unfolding)] if unfolding else [])


def _unfolding(unfolding: dict[str, Unfolding]) -> Paragraph:
    """Whether half of a motion had been taken for mirror images of the other half."""
    told = [
        f"start {int(start) + 1}: {standing.gain:.2f} +- {standing.gain_error:.2f} nats an image"
        + ("" if standing.mirrored_difference is None else f", {standing.mirrored_difference:.2f}")
        for start, standing in unfolding.items()
    ]
    return Paragraph(
        "The molecule is nearly its own mirror image, so that half of a motion may have been taken "
        "for mirror images of the other half, states backwards. Then one density is lacking in the "
        "images of one half and too much in those of the other. It was looked for: what telling "
        "two such sides apart adds to the log-likelihood of images that the density was not found "
        f"from, and the correlation of the density with its mirror image: {'; '.join(told)}. "
        "Where the first is clear and the second clearly negative, the images of one side were "
        "laid out beyond the end of the others, as one longer motion."
    )


def _stages(evidence: Evidence) -> list[Block]:
    """Stage by stage, the share of particles placed, or of those offered poses that jumped."""
    rows = []
    for stage in stage_names(evidence.trace):
        lines = [line for line in evidence.trace if line["stage"] == stage]
        key = "placed" if "placed" in lines[0] else "jumped"
        if key not in lines[0]:
            continue
        sweeps = sorted({line["sweep"] for line in lines})
        ends = [
            np.mean([line[key] for line in lines if line["sweep"] in part])
            for part in (sweeps[:_ENDS], sweeps[-_ENDS:])
        ]
        rows.append((stage, str(len(sweeps)), key, f"{ends[0]:.1%}", f"{ends[1]:.1%}"))
    text = (
        "While searching, the share of particles that have a place. After it, the share of those "
        "offered poses from anywhere that took one, at the beginning and the end of each stage: it "
        "falls as particles find where they belong, and what is left at the end are particles "
        "whose images do not tell one place."
    )
    header = ("stage", "sweeps", "share that", "first sweeps", "last sweeps")
    return [Heading("Stage by stage"), Paragraph(text), Table(header, rows)]
