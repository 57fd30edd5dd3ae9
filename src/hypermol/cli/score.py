"""`hypermol score`: a run against known truth."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from hypermol.analysis.run import load_run
from hypermol.analysis.score import score_run
from hypermol.analysis.truth import load_truth

_MEAN_ERROR = "the mean rotation error is {rotation_error_deg_mean_as_they_are:.2f} deg"


def score(
    run: Annotated[Path, typer.Argument(help="Run directory (`hypermol fit`'s --out).")],
    truth: Annotated[
        Path, typer.Option(help="Folder with truth.star, truth.npz and truth_maps.npz.")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the numbers as JSON instead of a table.")
    ] = False,
) -> None:
    """Score a run against known truth; gauges are taken out. Also writes score.json in the run."""
    opened = load_run(run)
    console = Console(stderr=True)
    with console.status("reading") as status:
        result = score_run(opened, load_truth(truth), lambda text: status.update(text))
    result = plain(result)
    opened.directory.write_json("score.json", result)
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    Console().print(score_table(result))


def plain(value: Any) -> Any:
    """What JSON can hold: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value


def score_table(result: dict[str, Any]) -> Table:
    """The scores as a table for people."""
    table = Table(title=f"{result['run']} against {result['truth']}", title_justify="left")
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column("remark")
    for row in _rows(result):
        table.add_row(*row)
    return table


def _rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    fsc, poses = result["fsc"], result["poses"]
    perfect = f"perfect is {fsc['perfect_area']:.3f}; {fsc['n_images']} images"
    rows = [
        ("per-image FSC area, unmasked", f"{fsc['area_unmasked']:.4f}", perfect),
        ("per-image FSC area, masked", f"{fsc['area_masked']:.4f}", "mask from the mean truth"),
    ]
    for name, unit in (("rotation_error_deg", "deg"), ("shift_error_px", "px")):
        was = f"the input's poses: {poses[f'input_{name}_median']:.3f}"
        label = f"{name.partition('_')[0]} error, median ({unit})"
        rows.append((label, f"{poses[f'{name}_median']:.3f}", was))
    if symmetry := poses["symmetry"]:
        share = f"{100 * symmetry['share_turned']:.1f} %"
        remark = f"of {symmetry['n_equivalents']}; without, {_MEAN_ERROR.format(**symmetry)}"
        rows.append(("particles nearer in an equivalent pose", share, remark))
    gauge = result["gauge"]["volumes"]
    hand = "hand flipped" if gauge["flipped"] else "same hand"
    rows.append(("gauge taken out (deg)", f"{gauge['angle_deg']:.2f}", hand))
    return rows + _frame_rows(result) + _state_rows(result) + _coverage_rows(result)


def _frame_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    frames = result["state_frames"]
    if frames is None:
        return []
    note = f"frames of states span {frames['span_deg']:.1f} degrees"
    return [
        ("each state in its own frame:", "", note),
        ("  per-image FSC area, unmasked", f"{frames['area_unmasked']:.4f}", ""),
        ("  per-image FSC area, masked", f"{frames['area_masked']:.4f}", ""),
        ("  rotation error, median", f"{frames['rotation_error_deg_median']:.2f}", "degrees"),
        ("  aligned within 10 degrees", f"{frames['aligned_within_10_deg']:.3f}", "share"),
    ]


def _state_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    state, populations = result["state"], result["populations"]
    if result["knobs"] is not None:
        return knob_rows(result["knobs"])
    if state is None:
        return [("state", "-", "run and truth have no common kind of state")]
    names = {
        "rank_correlation": "state rank correlation",
        "circular_rank_correlation": "state circular correlation (ranks)",
        "angular_correlation": "state circular correlation (angles)",
        "error_median_mapped": "state error, median",
    }
    rows = [(label, f"{state[key]:.4f}", "") for key, label in names.items() if key in state]
    if populations is None:
        return rows
    true = populations["true_fraction"]
    rows.append(("population below the valley, true", f"{true:.3f}", ""))
    for key, label in (
        ("particles", "states of the particles"),
        ("own_valley", "cut at the run's own valley"),
        ("model", "occupancy of the model"),
    ):
        found = populations[key]
        if found is None:
            rows.append((f"  {label}", "-", "the run's states have one peak"))
            continue
        band = f"90 % band {found['lower_90']:.3f} to {found['upper_90']:.3f}"
        inside = "holds the truth" if found["truth_inside_90"] else "does not hold the truth"
        rows.append((f"  {label}", f"{found['mean']:.3f}", f"{band}, {inside}"))
    return rows


def knob_rows(knobs: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The matrix of correlations, a line a knob; errors; and how knobs go together."""
    truth = ", ".join(knobs["true_names"])
    rows = []
    for name, values in zip(knobs["names"], knobs["correlations"], strict=True):
        shown = "  ".join("-" if value is None else f"{value:.3f}" for value in values)
        rows.append((f"correlation of {name}", shown, f"with the truth's {truth}"))
    for found in knobs["matched"]:
        label = f"{found['knob']} as {found['truth']}, {found['measure']}"
        backwards = "direction turned" if found["direction"] < 0 else ""
        rows.append((label, f"{found['correlation']:.4f}", backwards))
        for key, words in (("error_median", "error, median"), ("accuracy", "right class")):
            if found.get(key) is not None:
                rows.append((f"  {words}", f"{found[key]:.4f}", ""))
    for pair in knobs["joint"]:
        names = " and ".join(pair["knobs"])
        value = f"{pair['mean']:.3f} ± {pair['sd']:.3f}"
        remark = f"the truth's {pair['true']:.3f}; chance below {pair['chance']:.3f}"
        rows.append((f"{names}, {pair['measure']}", value, remark))
    return rows


def _coverage_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = _intervals(result["coverage"], "")
    aligned = result["coverage_aligned"]
    if aligned is not None:
        share = f"{100 * aligned['share']:.1f} %"
        rows.append(("aligned within 12.2 degrees:", share, "of the particles"))
        rows += _intervals(aligned, "  ")
    return rows


def _intervals(coverage: dict[str, Any], indent: str) -> list[tuple[str, str, str]]:
    names = {
        "state": "state",
        "state_by_distribution": "state (distributions matched)",
        "rotation": "rotation",
        "shift": "shift",
        "contrast": "contrast",
    }
    found = {name: coverage[key] for key, name in names.items() if key in coverage}
    found = coverage.get("knobs", {}) | found
    draws = f"{coverage['n_draws']} draws"
    return [
        (
            f"{indent}{name} inside its 50 % / 90 % interval",
            f"{100 * value['50']:.0f} % / {100 * value['90']:.0f} %",
            draws,
        )
        for name, value in found.items()
    ]
