"""`hypermol demo`: simulate, recover, report and score an embedded example, in minutes."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from hypermol.analysis.run import load_run
from hypermol.analysis.score import score_run
from hypermol.analysis.truth import load_truth
from hypermol.cli.fit import finish, fit_with_progress
from hypermol.cli.score import plain, score_table
from hypermol.data.source import ParticleSource
from hypermol.molecule.gallery import pretzel
from hypermol.recipe.options import FitOptions
from hypermol.runtime import configure
from hypermol.simulation import MoleculeSource, Noise, Poses, Settings, simulate, write_dataset

#: Small enough for two cores, noisy enough that no single image shows the state.
_SETTINGS = Settings(
    n=1000,
    box=32,
    pixel_size_angstrom=10.0,
    poses=Poses(shift_sd_angstrom=10.0, rotation_error_deg=2.0, shift_error_px=0.5),
    noise=Noise(snr=0.15),
)
_OPTIONS = FitOptions(n_terms=4, state_name="arm", burn_in=6, samples=10, resolution_angstrom=26.0)


def demo(
    out: Annotated[Path, typer.Option(help="Folder to write the data and the run to.")] = Path(
        "demo-run"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
) -> None:
    """Recover a pretzel whose arm curls, from 1,000 noisy images; pictures are left in --out."""
    console = Console()
    console.print(f"hypermol demo on {configure()}")
    with console.status("simulating 1,000 images of a pretzel with one moving arm"):
        settings = Settings(**{**vars(_SETTINGS), "seed": seed})
        source = MoleculeSource(pretzel(110.0, arms=1))
        write_dataset(out / "data", simulate(source, settings), overwrite=True)
    data = ParticleSource(out / "data" / "particles.star")
    directory = fit_with_progress(console, data, out / "run", _OPTIONS)
    finish(console, directory)
    run = load_run(directory.path)
    with console.status("comparing with the truth"):
        result = plain(score_run(run, load_truth(out / "data" / "truth")))
        directory.write_json("score.json", result)
    console.print(score_table(result))
    correlation = result["state"]["rank_correlation"]
    console.print(f"State rank correlation with the truth: {correlation:.3f}")
    console.print(
        f"Pictures: {directory.path / 'figures'}; report: {directory.path / 'report.html'}"
    )
