"""Scoring a run against known truth, free of gauge (rotation, shift, hand, state parameter)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hypermol.analysis.alignment import align_volumes
from hypermol.analysis.chains import has_states, is_circle, n_classes, pooled_states
from hypermol.analysis.equivalent_poses import (
    Choice,
    Equivalent,
    choose,
    equivalents,
    reordered,
    turned,
)
from hypermol.analysis.fsc import PerImageFsc, benchmark_images, per_image_fsc
from hypermol.analysis.gauge import Gauge, apply_to_volume, compose, pose_errors
from hypermol.analysis.masks import mask_from_map
from hypermol.analysis.particle_summary import ParticleSummary, summarise_particles
from hypermol.analysis.run import Run
from hypermol.analysis.score_coverage import Drawn, KnobPair, knob_pairs, score_coverage
from hypermol.analysis.score_frames import Frames, one_frame, score_frames, state_frames
from hypermol.analysis.score_knobs import score_knobs
from hypermol.analysis.score_populations import score_populations
from hypermol.analysis.states import (
    StateMap,
    Topology,
    angular_correlation,
    circular_correlation,
    circular_errors,
    distance_matrix,
    match_states,
    rank_correlation,
)
from hypermol.analysis.summary import run_particles
from hypermol.analysis.truth import Truth, check_fits, match_particles
from hypermol.analysis.volumes import (
    ImageVolumes,
    mean_state_grids,
    moved_to_box,
    per_image_mean,
)
from hypermol.runtime import in_threads

_MATCH_NODES = 24
#: Images that CryoBench takes its per-image FSC of.
N_IMAGES = 100
#: Volumes are not resampled where the gauge moves no voxel of the molecule by more than this.
_NEGLIGIBLE_PX = 0.05
#: A particle whose rotation is so near the truth's is aligned: Frobenius distance 0.3.
_ALIGNED_DEG = float(np.degrees(2.0 * np.arcsin(0.3 / np.sqrt(8.0))))


def largest_move_px(gauge: Gauge, radius_px: float, pixel_size: float) -> float:
    """How far the gauge moves a voxel within the radius at most, in pixels."""
    if gauge.flipped:
        return float("inf")
    shift = float(np.linalg.norm(gauge.shift_angstrom)) / pixel_size
    return 2.0 * np.sin(np.radians(gauge.angle_deg) / 2.0) * radius_px + shift


@dataclass(frozen=True)
class Scoring:
    """A run and the truth of its particles, with what takes one to the other.

    Attributes:
        run: with samples.
        truth: of the run's particles, in the run's order.
        n_images: about how many images the FSC is taken of.
    """

    run: Run
    truth: Truth
    n_images: int = N_IMAGES

    @property
    def pixel_size(self) -> float:
        """Angstrom per pixel."""
        return self.run.info["pixel_size_angstrom"]

    @cached_property
    def particles(self) -> ParticleSummary:
        """Posterior means of the run's particles."""
        return summarise_particles(self.run)

    @cached_property
    def estimated_poses(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean rotations [N, 3, 3] and shifts in Angstrom [N, 2]."""
        return self.particles.rotations, self.particles.shift_px * self.pixel_size

    @cached_property
    def true_poses(self) -> tuple[np.ndarray, np.ndarray]:
        """True rotations [N, 3, 3] and shifts in Angstrom [N, 2]."""
        return self.truth.rotations, self.truth.shifts_angstrom

    @cached_property
    def equivalents(self) -> tuple[Equivalent, ...]:
        """Poses and states that the run's recipe says are one and the same."""
        return equivalents(self.run.molecule)

    @cached_property
    def choice(self) -> Choice:
        """The equivalent of each particle that is nearest to the truth, from poses alone."""
        return choose(self.estimated_poses, self.true_poses, self.equivalents)

    @property
    def pose_gauge(self) -> Gauge:
        """Gauge from the poses alone."""
        return self.choice.gauge

    @property
    def turns(self) -> np.ndarray:
        """[N, 3, 3] S of each particle's equivalent."""
        return np.array([one.rotation for one in self.equivalents])[self.choice.which]

    @cached_property
    def states(self) -> np.ndarray:
        """Sampled states [S, N, dim], in the order of each particle's equivalent."""
        return reordered(pooled_states(self.run), self.equivalents, self.choice.which)

    def drawn(self, knobs: tuple[KnobPair, ...]) -> Drawn:
        """What coverage is told from, with these knobs where there are several."""
        state_map = self.state_map if self.compares_states else None
        return Drawn(self.states, self.turns, state_map, knobs)

    @cached_property
    def nearest_poses(self) -> tuple[np.ndarray, np.ndarray]:
        """Estimated poses, each in the equivalent that is nearest to the truth."""
        return turned(self.estimated_poses, self.equivalents, self.choice.which)

    @property
    def has_own_frames(self) -> bool:
        """Whether each state may have a frame of its own, which the truth's poses can tell."""
        return self.run.info["poses"] in ("search", "start") and self.truth.dim > 0

    @cached_property
    def frames(self) -> Frames:
        """What takes poses to the truth's, of each state where it has its own frame."""
        if self.has_own_frames:
            return state_frames(self.nearest_poses, self.truth)
        return one_frame(self.pose_gauge, len(self.truth))

    @cached_property
    def aligned(self) -> np.ndarray:
        """bool [N]: particles whose rotation is within Frobenius distance 0.3 of the truth's."""
        return self.frames.errors(self.nearest_poses, self.true_poses)[0] < _ALIGNED_DEG

    @cached_property
    def images(self) -> np.ndarray:
        """Images that the benchmark scores."""
        return benchmark_images(len(self.truth), self.n_images)

    @cached_property
    def image_volumes(self) -> ImageVolumes:
        """Each scored image's posterior mean volume."""
        return per_image_mean(self.run, self.images)

    @cached_property
    def volume_gauge(self) -> Gauge:
        """The poses' gauge, refined so that the mean volumes agree best.

        A molecule whose motion is shared differently between poses and states has slightly
        different gauges in poses and in volumes. Images whose poses have an equivalent nearer to
        the truth show the molecule turned, and are left out.
        """
        kept = self.choice.which[self.images] == 0
        mean = self.run.to_box(self.image_volumes.grid[kept].mean(axis=0))
        moved = apply_to_volume(self.pose_gauge, mean, self.pixel_size)
        target = np.mean(
            [self.truth.maps[f].astype(np.float32) for f in self.truth.frame[self.images[kept]]],
            axis=0,
        )
        local = align_volumes(moved, target, self.pixel_size, "local")
        return compose(local, self.pose_gauge)

    @cached_property
    def moving_gauge(self) -> Gauge:
        """The volumes' gauge; none where it moves nothing."""
        # an unfinished run does not say its radius yet
        half_box = 0.5 * self.run.info["box"] * self.pixel_size
        radius = self.run.info.get("radius_angstrom", half_box) / self.pixel_size
        nothing = largest_move_px(self.volume_gauge, radius, self.pixel_size) < _NEGLIGIBLE_PX
        return Gauge() if nothing else self.volume_gauge

    def own_volume(self, image: int, gauge: Gauge) -> np.ndarray:
        """An image's posterior mean volume, of the nearest description, in another gauge."""
        if self.choice.which[image]:
            gauge = compose(gauge, Gauge(self.turns[image]))
        return self.image_volumes.moved(image, gauge)

    @cached_property
    def compares_states(self) -> bool:
        """Whether both the run and the truth have one state variable of the same kind."""
        if not has_states(self.run) or n_classes(self.run) or self.truth.dim != 1:
            return False
        return self.truth.topology in (None, "circle" if is_circle(self.run) else "interval")

    @cached_property
    def state_map(self) -> StateMap:
        """From the run's state to the truth's, from volumes alone."""
        nodes = self.run.nodes(_MATCH_NODES)
        grids = mean_state_grids(self.run, nodes)
        volumes = [moved_to_box(self.run, grid, self.moving_gauge) for grid in grids]
        order = np.argsort(self.truth.map_states[:, 0])
        cost = distance_matrix(np.stack(volumes), self.truth.maps[order].astype(np.float32))
        topology: Topology = "circle" if is_circle(self.run) else "interval"
        return match_states(cost, nodes[:, 0], self.truth.map_states[order, 0], topology)


def score_run(
    run: Run,
    truth: Truth,
    say: Callable[[str], None] = lambda text: None,
    n_images: int = N_IMAGES,
) -> dict[str, Any]:
    """Score a run against the truth of its data set.

    Args:
        run: with samples.
        truth: of the same data set; particles are matched by stack name and number in it.
        say: told what is being done.
        n_images: about how many images the FSC is taken of.

    Returns:
        What score.json holds (docs/outputs.md): nested numbers, null where there is nothing to
        compare.

    Raises:
        InputError: the truth is of other data, or the run has no samples.
    """
    say("matching particles")
    matched = match_particles(truth, run_particles(run))
    check_fits(matched, run.info["box"], run.info["pixel_size_angstrom"])
    scoring = Scoring(run, matched, n_images)
    say("poses")
    result: dict[str, Any] = {
        "run": str(run.directory.path),
        "truth": str(truth.folder),
        "n_particles": len(matched),
        "n_samples": scoring.particles.n_samples,
        "poses": score_poses(scoring),
    }
    say("per-image FSC")
    result["fsc"] = score_fsc(scoring, lambda image: scoring.moving_gauge)
    result["gauge"] = {
        "poses": _gauge_numbers(scoring.pose_gauge),
        "volumes": _gauge_numbers(scoring.volume_gauge),
    }
    result["state_frames"] = None
    if scoring.has_own_frames:
        say("frames of states")
        areas = score_fsc(scoring, scoring.frames.gauge)
        result["state_frames"] = score_frames(
            scoring.frames, scoring.nearest_poses, matched, scoring.pixel_size
        ) | {name: areas[name] for name in ("area_unmasked", "area_masked")}
    result["state"] = result["populations"] = result["knobs"] = None
    if scoring.compares_states:
        say("states")
        result["state"] = score_states(scoring)
        if not is_circle(run):
            result["populations"] = score_populations(run, matched, scoring.state_map)
    elif has_states(run):
        say("states")
        result["knobs"] = score_knobs(run, matched.knobs, scoring.states, matched.states)
    say("coverage")
    return result | score_intervals(scoring, knob_pairs(result["knobs"]))


def score_intervals(scoring: Scoring, knobs: tuple[KnobPair, ...]) -> dict[str, Any]:
    """`coverage` of all particles in one frame, and `coverage_aligned` of those that a search or a
    rescue has placed, each state in its own frame where it has one; None for other runs."""
    run, truth, drawn = scoring.run, scoring.truth, scoring.drawn(knobs)
    everyone, plain = np.ones(len(truth), bool), one_frame(scoring.pose_gauge, len(truth))
    placed = None
    if run.info["poses"] in ("search", "rescue", "start") and scoring.aligned.any():
        share = {"share": float(scoring.aligned.mean())}
        placed = share | score_coverage(run, truth, scoring.frames, drawn, scoring.aligned)
    return {
        "coverage": score_coverage(run, truth, plain, drawn, everyone),
        "coverage_aligned": placed,
    }


def _gauge_numbers(gauge: Gauge) -> dict[str, Any]:
    return {
        "angle_deg": gauge.angle_deg,
        "shift_angstrom": [float(c) for c in gauge.shift_angstrom],
        "flipped": bool(gauge.flipped),
        "score": float(gauge.score),
    }


def score_poses(scoring: Scoring) -> dict[str, Any]:
    """Errors of the posterior mean poses after the gauge, and those of the input's poses.

    Each is the least over equivalent poses; `symmetry` says how often another than the particle's
    own was nearest, and what the error is without.
    """
    start = run_particles(scoring.run)
    input_poses = (start.rotations, start.shifts_angstrom)
    report: dict[str, Any] = {}
    cases = {
        "": (scoring.estimated_poses, scoring.choice),
        "input_": (input_poses, choose(input_poses, scoring.true_poses, scoring.equivalents)),
    }
    for prefix, (poses, choice) in cases.items():
        nearest = turned(poses, scoring.equivalents, choice.which)
        angles, distances = pose_errors(choice.gauge, nearest, scoring.true_poses)
        report[f"{prefix}rotation_error_deg_median"] = float(np.median(angles))
        report[f"{prefix}rotation_error_deg_mean"] = float(angles.mean())
        report[f"{prefix}shift_error_px_median"] = float(np.median(distances) / scoring.pixel_size)
    report["symmetry"] = None
    if len(scoring.equivalents) > 1:
        plain = pose_errors(scoring.pose_gauge, scoring.estimated_poses, scoring.true_poses)[0]
        report["symmetry"] = {
            "n_equivalents": len(scoring.equivalents),
            "share_turned": float(np.mean(scoring.choice.which > 0)),
            "rotation_error_deg_mean_as_they_are": float(plain.mean()),
        }
    return report


def score_fsc(scoring: Scoring, gauge_of: Callable[[int], Gauge]) -> dict[str, Any]:
    """Per-image FSC area of the posterior mean of each image's own volume, in its gauge."""
    truth = scoring.truth
    mask = mask_from_map(truth.mean_map())

    def one(case: tuple[int, Gauge]) -> dict[str, PerImageFsc]:
        image, gauge = case
        found = scoring.own_volume(image, gauge)
        true = truth.maps[truth.frame[image]].astype(np.float32)
        return {
            "unmasked": _one_image(found, true, None),
            "masked": _one_image(found, true, mask),
        }

    # what all images share is made here, and not by every thread
    scored = in_threads(one, [(image, gauge_of(image)) for image in scoring.images])
    areas = {kind: [image[kind].mean for image in scored] for kind in ("unmasked", "masked")}
    curves = {kind: [image[kind].curves[0] for image in scored] for kind in areas}
    box = scoring.run.info["box"]
    return {
        "n_images": len(scoring.images),
        "perfect_area": (box // 2 - 1) / box,
        **{f"area_{kind}": float(np.mean(values)) for kind, values in areas.items()},
        **{f"area_{kind}_sd": float(np.std(values)) for kind, values in areas.items()},
        **{
            f"curve_{kind}": [round(float(v), 5) for v in np.mean(values, axis=0)]
            for kind, values in curves.items()
        },
    }


def _one_image(found: np.ndarray, true: np.ndarray, mask: np.ndarray | None) -> PerImageFsc:
    return per_image_fsc(lambda _: found, lambda _: true, [0], mask)


def score_states(scoring: Scoring) -> dict[str, Any]:
    """Correlation of posterior mean states with the truth, and errors after the state map."""
    estimated, true = scoring.particles.state[:, 0], scoring.truth.states[:, 0]
    state_map = scoring.state_map
    mapped = state_map(estimated)
    report: dict[str, Any] = {
        "topology": state_map.topology,
        "direction": state_map.direction,
        "map_nodes": [float(v) for v in state_map.nodes],
        "map_values": [float(v) for v in state_map.values],
    }
    if state_map.topology == "circle":
        report["circular_rank_correlation"] = circular_correlation(estimated, true)
        report["angular_correlation"] = angular_correlation(estimated, true)
        report["angular_correlation_mapped"] = angular_correlation(mapped, true)
        gap = mapped - true
        report["error_median_mapped"] = float(np.median(np.abs(gap - np.rint(gap))))
        report["error_median_best_offset"] = float(np.median(circular_errors(estimated, true)))
    else:
        report["rank_correlation"] = rank_correlation(estimated, true)
        report["linear_correlation_mapped"] = float(np.corrcoef(mapped, true)[0, 1])
        report["error_median_mapped"] = float(np.median(np.abs(mapped - true)))
    return report
