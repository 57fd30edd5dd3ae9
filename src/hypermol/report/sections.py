"""The sections of the page, top to bottom."""

from pathlib import Path

from matplotlib.figure import Figure

from hypermol.report import (
    figures_molecule,
    figures_occupancy,
    figures_particles,
    figures_sampler,
)
from hypermol.report.convergence import RHAT_GOOD, RHAT_USABLE
from hypermol.report.evidence import Evidence, KnobEvidence
from hypermol.report.page import (
    Block,
    FileLinks,
    Heading,
    Listing,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
)
from hypermol.report.search import search
from hypermol.report.style import as_png, data_uri, save

_NOT_GOLD = (
    "Each half of the particles was reconstructed on its own, but with poses and states that were "
    "estimated from all particles together: not a gold-standard FSC, and likely to be optimistic."
)


class Pictures:
    """Renders figures, leaves each as a PNG in run/figures and returns it for the page."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, name: str, figure: Figure, caption: str) -> Picture:
        """Save `name`.png and return it for the page."""
        content = as_png(figure)
        save(content, self.folder / f"{name}.png")
        return Picture(data_uri(content, "png"), caption)

    def add_gif(self, name: str, content: bytes, caption: str) -> Picture:
        """Save `name`.gif and return it for the page."""
        save(content, self.folder / f"{name}.gif")
        return Picture(data_uri(content, "gif"), caption)


def all_sections(evidence: Evidence, pictures: Pictures) -> list[Section]:
    """Every section; what is missing leaves a visible note."""
    return [
        molecule(evidence, pictures),
        occupancy(evidence, pictures),
        poses(evidence, pictures),
        resolution(evidence, pictures),
        states(evidence, pictures),
        sampler(evidence, pictures),
        *search(evidence),
        *remarks(evidence),
        files(evidence),
    ]


def molecule(evidence: Evidence, pictures: Pictures) -> Section:
    """Montage, film and slices."""
    run, density = evidence.run, evidence.density
    parts: list[Block] = [
        pictures.add(
            "montage",
            figures_molecule.montage_figure(run, density),
            "Projections of the posterior mean density along the three axes of the box, on one "
            "grey scale.",
        )
    ]
    film = figures_molecule.movie_gif(run, density)
    if film is not None:
        names = [found.knob.name for found in evidence.knobs]
        caption = (
            f"The same projections (along z, y and x) while {', '.join(names)} "
            f"{'runs through its range' if len(names) == 1 else 'run through their ranges'}; the "
            f"bar shows where {names[0]} is."
        )
        parts.append(pictures.add_gif("movie", film, caption))
    if evidence.has_states:
        offset = figures_molecule.slice_of_most_change(density) - density.average.shape[0] // 2
        height = offset * density.voxel_size_angstrom
        caption = (
            f"The slice across z where the states differ most (z = {height:+.0f} Å from the "
            "centre). Rows: posterior mean; posterior standard deviation on a grey scale of the "
            "same width; difference of the mean from the average over all particles; that "
            "difference over its posterior standard deviation, where beyond ±4 is hardly chance."
        )
    else:
        caption = "Central slices: posterior mean, and posterior sd on a grey scale of same width."
    parts.append(pictures.add("slices", figures_molecule.slices_figure(run, density), caption))
    return Section("molecule", "The molecule", parts)


def occupancy(evidence: Evidence, pictures: Pictures) -> Section:
    """How populated each state is, knob by knob and two knobs at once."""
    name = "Occupancy"
    if not evidence.knobs:
        text = "The model has one state (a rigid molecule), so there is no occupancy to show."
        return Section("occupancy", name, [Missing(text)])
    caption = (
        "How the particles are spread over the state. Bands hold the uncertainty of the "
        "particles' states and of this data set's finite number of particles. The state's "
        "parameter is a convention: equal steps need not be equal motions."
    )
    figure = figures_occupancy.occupancy_figure(evidence.knobs)
    parts: list[Block] = [pictures.add("occupancy", figure, caption)]
    if evidence.joints:
        parts += _joint_occupancy(evidence, pictures)
    return Section("occupancy", name, parts)


def _joint_occupancy(evidence: Evidence, pictures: Pictures) -> list[Block]:
    """Picture and table of how every two knobs go together."""
    caption = (
        "Left: density of particles over two states at once. Right: the same over what it would "
        "be if the two were independent (the product of each state's own density): white is "
        "independent, orange more and purple fewer particles than that; grey bins hold too few "
        "to say."
    )
    n = evidence.run.info["n_particles"]
    figure = figures_occupancy.joint_figure(evidence.joints, evidence.dependences, n)
    rows = [
        (
            f"{found.first.name} and {found.second.name}",
            found.measure,
            f"{found.mean:.3f} ± {found.sd:.3f}",
            f"{found.chance:.3f}",
            "dependent" if found.is_significant else "no sign of dependence",
        )
        for found in evidence.dependences
    ]
    header = ("states", "measure", "posterior mean ± sd", "99 % of chance below", "")
    return [
        Heading("Do the states depend on each other?"),
        pictures.add("joint_occupancy", figure, caption),
        Table(header, rows),
    ]


def poses(evidence: Evidence, pictures: Pictures) -> Section:
    """Pose change, pose certainty, contrast, viewing directions."""
    summary, run = evidence.particles, evidence.run
    parts: list[Block] = []
    if evidence.given is None:
        parts.append(Missing(evidence.given_note))
    if run.info["poses"] == "fixed":
        parts.append(Paragraph("Poses were held at the input's (--poses fixed)."))
        figure = figures_particles.contrast_figure(summary)
        caption = "Contrasts of the particles (the prior's mean is 1). The red line is the median."
        parts.append(pictures.add("contrast", figure, caption))
    else:
        figure = figures_particles.poses_figure(summary, evidence.given)
        caption = (
            "Blue: posterior mean pose against the input's. Light blue: how well each particle's "
            "pose is known. Orange: contrasts (the prior's mean is 1). Red lines are medians."
        )
        parts.append(pictures.add("poses", figure, caption))
    caption = "Viewing directions in the molecule's frame (equal-area bins)."
    if any(found.knob.kind == "interval" for found in evidence.knobs):
        caption += " Beside them the mean state seen from each; it should look like noise."
    figure = figures_particles.views_figure(summary, evidence.knobs)
    parts.append(pictures.add("views", figure, caption))
    return Section("poses", "Poses and contrast", parts)


def resolution(evidence: Evidence, pictures: Pictures) -> Section:
    """FSC and spectra."""
    parts: list[Block] = []
    if evidence.halves is None:
        parts.append(Missing("This run has no half-set maps (halves.npz), so there is no FSC."))
    else:
        figure = figures_sampler.fsc_figure(evidence.run, evidence.halves)
        caption = f"Half-set FSC at each state, and where it falls below 0.143. {_NOT_GOLD}"
        parts.append(pictures.add("fsc", figure, caption))
    parts.append(
        pictures.add(
            "spectra",
            figures_sampler.spectra_figure(evidence.spectra),
            "Left: variance of the noise in each shell of the images. Right: power of the "
            "posterior mean of each term of the expansion (term 0 is constant in the state) and, "
            "dotted, the variance that the prior gives it; a term "
            "whose power lies far below its prior was not asked for by the data.",
        )
    )
    return Section("resolution", "Resolution, signal and noise", parts)


def states(evidence: Evidence, pictures: Pictures) -> Section:
    """Certainty of single particles' states, and leaks."""
    title = "How sure is each particle's state"
    if not evidence.knobs:
        text = "The model has one state (a rigid molecule): nothing to be unsure of."
        return Section("states", title, [Missing(text)])
    parts: list[Block] = []
    for found in evidence.knobs:
        caption = (
            f"{found.knob.name}. Left: posterior standard deviation of single particles' states, "
            "against the spread of all states. Right: the same by posterior mean state."
        )
        if found.knob.labels:
            caption += (
                " Of classes, the share of samples in any other than a particle's most frequent "
                "class, and the share of all states outside the largest class."
            )
        figure = figures_particles.certainty_figure(found)
        parts.append(pictures.add(_of_knob(evidence, "certainty", found), figure, caption))
    parts += [
        Heading("Does the state follow something it should not?"),
        Paragraph(
            "A motion belongs to the molecule: it should not be predictable from how a particle "
            "lay on the grid. Values in grey bars are chance. A red value is either a leak (views, "
            "defocus or contrast mistaken for states) or a true preference of states for "
            "orientations, e.g. at the air-water interface."
        ),
    ]
    for found in evidence.knobs:
        caption = (
            f"Multiple rank correlation of posterior mean {found.knob.name} with each quantity; "
            "grey up to the 99 % quantile over 400 random permutations."
        )
        figure = figures_particles.leak_figure(found.leaks)
        parts.append(pictures.add(_of_knob(evidence, "leaks", found), figure, caption))
    return Section("states", title, parts)


def _of_knob(evidence: Evidence, name: str, found: KnobEvidence) -> str:
    """A picture's name: with the knob's where there are several."""
    return name if len(evidence.knobs) == 1 else f"{name}_{found.knob.name}"


def sampler(evidence: Evidence, pictures: Pictures) -> Section:
    """Convergence table and traces."""
    parts: list[Block] = [
        Paragraph(
            "R-hat compares chains (and halves of chains): 1 is perfect, up to "
            f"{RHAT_GOOD} converged, up to {RHAT_USABLE} usable; in short chains "
            "chance alone gives more. ESS is how many independent "
            "samples the correlated ones are worth. Groups of particles are judged by their "
            "median, all others by their worst."
        )
    ]
    if evidence.convergence:
        weights = [row.weight for row in evidence.convergence]
        rows = [
            (
                row.name,
                str(row.n),
                f"{row.rhat[0]:.3f}",
                f"{row.rhat[1]:.3f}",
                f"{row.ess[0]:.0f}",
                f"{row.ess[1]:.0f}",
                row.words,
            )
            for row in evidence.convergence
        ]
        header = ("quantity", "number", "R-hat median", "worst", "ESS median", "least", "")
        parts.append(Table(header, rows, weights))
    else:
        parts.append(Missing("R-hat and ESS need at least four samples in every chain."))
    if evidence.trace:
        stages = figures_sampler.stage_names(evidence.trace)
        caption = (
            "One line a chain; stages are shaded in turn, the sampling stage green. Stages in "
            f"order: {', '.join(stages)}. The fit to the images is not comparable "
            "between resolutions."
        )
        parts.append(pictures.add("trace", figures_sampler.trace_figure(evidence.trace), caption))
        kept = figures_sampler.kept_figure(evidence.trace)
        if kept is not None:
            figure, label = kept
            caption = f"The {label} of kept sweeps: a drift says that burn-in was too short."
            parts.append(pictures.add("kept_sweeps", figure, caption))
    else:
        parts.append(Missing("The run has no trace.jsonl, so no traces can be shown."))
    return Section("sampler", "The sampler", parts)


def remarks(evidence: Evidence) -> list[Section]:
    """What was said while the particles were read; no section where nothing was."""
    found = evidence.run.info.get("remarks", [])
    return [Section("remarks", "Remarks on the input", [Listing(found)])] if found else []


_FILES = (
    ("particles.star", "the particles with posterior mean poses, states and their sds"),
    ("posterior.nc", "all samples, as ArviZ reads them"),
    ("occupancy.csv", "occupancy with bands"),
    ("fsc.csv", "half-set FSC by state"),
    ("diagnostics.json", "R-hat and effective sample sizes"),
    ("recipe.toml", "every option of the run, resolved"),
    ("run.json", "what was run: data, versions, timing"),
    ("trace.jsonl", "one line a sweep"),
    ("halves.npz", "half-set maps"),
)


def files(evidence: Evidence) -> Section:
    """Links to what lies in the run directory."""
    directory = evidence.run.directory
    found = [(name, what) for name, what in _FILES if directory.has(name)]
    volumes = sorted((directory.path / "volumes").glob("*.mrc"))
    found += [(f"volumes/{path.name}", "density map") for path in volumes]
    found.append(("figures/montage.png", "the pictures of this page as files lie in figures/"))
    return Section("files", "Files of this run", [FileLinks(found)])
