"""Figures hold the numbers that were computed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hypermol.analysis.run import load_run
from hypermol.analysis.summary import sampled_occupancy
from hypermol.analysis.volumes import half_set_fsc, state_volumes
from hypermol.report.density import film
from hypermol.report.evidence import gather
from hypermol.report.figures_molecule import montage_figure, slices_figure
from hypermol.report.figures_occupancy import occupancy_figure
from hypermol.report.figures_particles import leak_figure, poses_figure
from hypermol.report.figures_sampler import fsc_figure, spectra_figure, trace_figure
from hypermol.report.particles import pose_change
from hypermol.report.verdict import findings

from .synthetic import World, make_run, terms


@pytest.fixture(scope="module")
def world() -> World:
    return World(n=300, draws=6)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory, world):
    return gather(load_run(make_run(tmp_path_factory.mktemp("run"), world)))


def test_occupancy_bands_are_the_models(evidence):
    expected = sampled_occupancy(evidence.run, evidence.knobs[0].knob)
    ax = occupancy_figure(evidence.knobs).axes[0]
    mean = next(line for line in ax.lines if line.get_label() == "mean")
    assert_allclose(mean.get_ydata()[:-1], expected.mean)
    bands = {band.get_label(): band.get_paths()[0].vertices[:, 1] for band in ax.collections}
    for level, name in enumerate(("50 % band", "90 % band")):
        drawn = set(np.round(bands[name], 9))
        assert set(np.round(expected.lower[level], 9)) <= drawn
        assert set(np.round(expected.upper[level], 9)) <= drawn


def test_density_agrees_with_the_written_volumes(evidence, world):
    run, density = evidence.run, evidence.density
    whole = state_volumes(run, density.states)
    correlation = np.corrcoef(run.to_box(density.mean).ravel(), whole.mean.ravel())[0, 1]
    assert correlation > 0.9999
    assert_allclose(density.terms.mean(axis=0)[0], terms(world)[0], atol=6 * world.noise)
    ball = density.radius_angstrom < 0.9 * world.radius
    weights = run.weights(density.states)
    expected = world.noise * np.sqrt((weights**2).sum(axis=1))
    assert_allclose(density.sd[:, ball].mean(axis=1), expected, rtol=0.05)


def test_film_passes_through_the_montage(evidence):
    _, volumes = film(evidence.run, evidence.density, len(evidence.density.states))
    assert_allclose(volumes, evidence.density.mean, atol=1e-5)


def test_montage_shows_projections_of_the_mean(evidence):
    figure = montage_figure(evidence.run, evidence.density)
    images = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert len(images) == 3 * len(evidence.density.states)
    # the density is zero outside its ball, so cropping takes nothing away
    assert_allclose(float(images[0].sum()), evidence.density.mean[0].sum(), rtol=1e-4)
    assert_allclose(float(images[-1].sum()), evidence.density.mean[-1].sum(), rtol=1e-4)


def test_slices_show_mean_and_sd_on_one_scale(evidence):
    figure = slices_figure(evidence.run, evidence.density)
    images = [ax.images[0] for ax in figure.axes if len(ax.images) == 1]
    n = len(evidence.density.states)
    (low, high), (zero, top) = images[0].get_clim(), images[n].get_clim()
    assert zero == 0.0
    assert_allclose(top, high - min(low, 0.0))


def test_pose_histograms_count_the_particles(evidence):
    angle, _ = pose_change(evidence.particles, evidence.given)
    ax = poses_figure(evidence.particles, evidence.given).axes[0]
    counted = sum(patch.get_height() for patch in ax.patches)
    low, high = np.percentile(angle, [0.25, 99.75])
    assert counted == np.sum((angle >= low) & (angle <= high))
    # input poses were turned by 2 degrees in each direction about the truth
    assert np.median(angle) == pytest.approx(3.1, abs=0.5)


def test_fsc_curves_and_labels(evidence):
    expected = half_set_fsc(evidence.run, evidence.density.states)
    ax = fsc_figure(evidence.run, evidence.halves).axes[0]
    n_shells = evidence.run.info["kmax"] + 1
    curves = [line.get_ydata() for line in ax.lines if len(line.get_ydata()) == n_shells]
    assert_allclose(curves, expected.curves[:, :n_shells])
    box_angstrom = evidence.run.info["box"] * evidence.run.info["pixel_size_angstrom"]
    assert ax.lines[0].get_xdata()[1] == pytest.approx(1.0 / box_angstrom)
    assert ax.get_xlabel() == "resolution (Å)"


def test_spectra_and_traces_draw_every_term_and_chain(evidence):
    left, right = spectra_figure(evidence.spectra).axes
    assert_allclose(left.lines[0].get_ydata(), evidence.spectra.noise[1])
    assert len(right.lines) == 2 * evidence.run.info["n_terms"]
    ax = trace_figure(evidence.trace).axes[0]
    rows = [row["log_likelihood"] for row in evidence.trace if row["chain"] == 1]
    assert_allclose(ax.lines[1].get_ydata(), rows)


def test_axes_have_labels(evidence):
    figures = (
        occupancy_figure(evidence.knobs),
        poses_figure(evidence.particles, evidence.given),
        leak_figure(evidence.knobs[0].leaks),
        spectra_figure(evidence.spectra),
    )
    for figure in figures:
        assert all(ax.get_xlabel() for ax in figure.axes if ax.axison)


def test_verdict_of_a_healthy_run_has_no_warning(evidence):
    found = {finding.title: finding for finding in findings(evidence)}
    assert [f.title for f in found.values() if f.weight == "warning"] == []
    assert "Motion" in found and "Support" in found and "Resolution" in found


def test_a_line_breaks_where_sweeps_are_missing():
    """A trial that another was chosen over ends; its chain begins again later."""
    sweeps = [0, 1, 2, 7, 8]
    trace = [
        {"chain": 0, "sweep": sweep, "stage": "a", "kept": False, "guessed_rotation": 0.1 * sweep}
        for sweep in sweeps
    ]
    ax = trace_figure(trace).axes[0]
    assert ax.get_title(loc="left") == "rotations drawn anew" and ax.get_ylim() == (0.0, 1.0)
    x, y = ax.lines[0].get_data()
    assert_allclose(np.asarray(x)[~np.isnan(y)], sweeps)
    assert np.flatnonzero(np.isnan(y)).tolist() == [3]
