"""Write the report of a run: one page and the same pictures as files."""

from collections.abc import Iterator
from pathlib import Path

from hypermol.analysis.knobs import Knob
from hypermol.analysis.run import Run, load_run
from hypermol.fitting.found import load_found
from hypermol.io.atomic import write_text
from hypermol.report.evidence import Evidence, gather
from hypermol.report.page import Top, render
from hypermol.report.sections import Pictures, all_sections
from hypermol.report.verdict import findings, headline

#: What became of the poses, by `sampling.poses`.
_POSES = {
    "refine": "refined",
    "fixed": "fixed",
    "search": "found from nothing",
    "rescue": "refined, some found anew",
    "start": "found, beginning at the input's",
}


def write_report(run: Run | str | Path) -> Path:
    """Write report.html and figures/*.png into the run directory.

    Args:
        run: the run or its directory.

    Returns:
        path of the page.

    Raises:
        InputError: the directory holds no run, or the run no samples yet.
    """
    opened = run if isinstance(run, Run) else load_run(run)
    evidence = gather(opened)
    folder = opened.directory.path
    sections = all_sections(evidence, Pictures(folder / "figures"))
    html = render(_top(evidence), sections)
    path = folder / "report.html"
    write_text(path, html)
    return path


def _top(evidence: Evidence) -> Top:
    """Title, facts and verdict."""
    found = findings(evidence)
    return Top(
        name=evidence.run.directory.path.resolve().name,
        particles=str(evidence.run.info["particles"]),
        facts=list(_facts(evidence)),
        headline=headline(found),
        findings=found,
    )


def _facts(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What was run, on what, for how long."""
    info, chains = evidence.run.info, len(evidence.run.chains)
    box_angstrom = info["box"] * info["pixel_size_angstrom"]
    yield "particles", f"{info['n_particles']:,}"
    yield "box", f"{info['box']} px of {info['pixel_size_angstrom']:.3g} Å"
    yield "modelled to", f"{box_angstrom / info['kmax']:.1f} Å (shell {info['kmax']})"
    if evidence.has_states:
        knobs = (found.knob for found in evidence.knobs)
        yield "state", "; ".join(f"{knob.name}, {_kind_words(knob)}" for knob in knobs)
        yield "basis", f"{info['basis']}, {info['n_terms']} terms{_why_so_many(evidence)}"
    else:
        yield "model", "rigid (one state)"
    yield "poses", _POSES[info["poses"]]
    yield "samples", f"{evidence.n_samples} from {chains} chain{'s' if chains > 1 else ''}"
    yield "seed", str(info["seed"])
    spent = f"{_duration(info.get('cpu_seconds'))} / {_duration(info.get('wall_seconds'))}"
    yield "CPU time / wall time", spent
    yield "hypermol", str(info.get("versions", {}).get("hypermol", "unknown"))


def _why_so_many(evidence: Evidence) -> str:
    """What the highest terms explained, where their number was left to the images."""
    told = load_found(evidence.run.directory).terms_tell
    if not told:
        return ""
    steps = ", ".join(f"{nats:.1f} nats of an image at {terms}" for terms, nats in told.items())
    return f", left to the images: the two highest explain {steps}"


def _kind_words(knob: Knob) -> str:
    return f"{len(knob.labels)} classes" if knob.labels else knob.kind


def _duration(seconds: float | None) -> str:
    """Seconds in words."""
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
