"""The verdict says what is wrong with a run that is wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hypermol.analysis.knobs import Knob
from hypermol.analysis.run import load_run
from hypermol.report.convergence import Convergence, chance_rhat
from hypermol.report.evidence import gather
from hypermol.report.figures_sampler import fsc_figure
from hypermol.report.leak import find_leaks
from hypermol.report.verdict import findings, headline

from .synthetic import World, make_run


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    return gather(load_run(make_run(tmp_path_factory.mktemp("run"), World(n=300, draws=6))))


def warnings(evidence) -> list[str]:
    return [finding.title for finding in findings(evidence) if finding.weight == "warning"]


def test_headline_names_the_warnings(healthy):
    assert "None" in headline(findings(healthy))
    broken = replace(healthy, knobs=(healthy.knobs[0]._replace(agreement=0.1),))
    assert "chains disagree" in headline(findings(broken))


def test_unconverged_chains(healthy):
    row = Convergence("density", 50, (1.3, 2.0), (5.0, 2.0), judged=2.0, chance=1.4)
    assert "The chains have not converged" in warnings(replace(healthy, convergence=[row]))
    short = row._replace(judged=1.3)
    assert warnings(replace(healthy, convergence=[short])) == []
    assert short.words == "too few draws to tell"


def test_inverted_contrast(healthy):
    density = healthy.density._replace(average=-healthy.density.average)
    assert "The contrast may be inverted" in warnings(replace(healthy, density=density))


@pytest.mark.parametrize(("mean", "weight"), [(1.0, "good"), (1.4, "note"), (0.09, "warning")])
def test_contrasts_far_from_one_have_no_tick(healthy, mean, weight):
    contrast = np.full_like(healthy.particles.contrast, mean)
    particles = healthy.particles._replace(contrast=contrast)
    (found,) = [
        f
        for f in findings(replace(healthy, particles=particles))
        if "contrast" in f.title.lower() and "inverted" not in f.title
    ]
    assert found.weight == weight and f"{mean:.2f}" in found.text


def test_an_image_of_another_contrast_is_named(healthy):
    contrast = np.array(healthy.particles.contrast)
    contrast[6] = 25.0
    evidence = replace(healthy, particles=healthy.particles._replace(contrast=contrast))
    (found,) = [f for f in findings(evidence) if "far from the others'" in f.title]
    assert "1 particles' are far from that (7," in found.text


@pytest.mark.parametrize(
    ("second", "said"),
    [(0.0, "one of the two maps is empty"), (1.0, "the same"), (np.nan, "not numbers")],
)
def test_half_maps_that_tell_no_resolution(tmp_path, second, said):
    path = make_run(tmp_path, World(n=50))
    halves = dict(np.load(path / "halves.npz"))
    np.savez(path / "halves.npz", **halves | {"half2": second * halves["half1"]})
    evidence = gather(load_run(path))
    (found,) = [f for f in findings(evidence) if f.title.startswith("The half maps")]
    assert found.weight == "warning" and said in found.text and "inf" not in found.text
    assert fsc_figure(evidence.run, evidence.halves) is not None


def test_density_at_the_edge_of_the_support(healthy):
    density = healthy.density
    edge = density.mean + (density.radius_angstrom > 0.85 * World().radius)
    assert "Density touches the support" in warnings(
        replace(healthy, density=density._replace(mean=edge))
    )


def test_no_motion(healthy):
    density = healthy.density._replace(change=0.0 * healthy.density.change)
    assert "No clear motion" in warnings(replace(healthy, density=density))


def test_unfinished_run(tmp_path):
    path = make_run(tmp_path, World(n=50))
    info = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**info, "finished": False}))
    assert "The run is not finished" in warnings(gather(load_run(path)))


def test_leak_of_the_viewing_direction_is_found(tmp_path):
    evidence = gather(load_run(make_run(tmp_path, World(n=800, leak=0.3))))
    assert "The state follows the imaging" in warnings(evidence)
    found = {leak.name: leak for leak in evidence.knobs[0].leaks}
    assert found["viewing direction, z"].is_significant
    assert not found["defocus"].is_significant


def test_circular_state_is_found_to_follow_an_angle():
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, 2 * np.pi, 500)
    state = np.mod(angle / (2 * np.pi) + 0.05 * rng.normal(size=500), 1.0)
    features = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    noise = rng.normal(size=(500, 2))
    with_angle, with_noise = find_leaks(
        Knob("turn", 0, "circle"), state, {"angle": features, "noise": noise}
    )
    assert with_angle.strength > 0.8
    assert with_angle.is_significant
    assert not with_noise.is_significant
    # N times the trace is chi-squared with 2 x 2 degrees of freedom, whose 99 % quantile is 13.3
    assert with_noise.null == pytest.approx(np.sqrt(13.3 / 500 / 2), rel=0.15)


def test_chance_rhat_falls_with_the_length_of_chains():
    short, long = chance_rhat(2, 10, 50), chance_rhat(2, 200, 50)
    assert short > 1.2
    assert 1.0 < long < 1.1
    assert chance_rhat(2, 10, 1) < short
