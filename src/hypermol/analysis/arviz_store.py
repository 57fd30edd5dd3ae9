"""posterior.nc: a run's samples as ArviZ's InferenceData, one netCDF group a kind of variable.

`arviz.from_netcdf("run/posterior.nc")` opens it. The maps themselves stay in samples/ (they are
too many); here is what is monitored of them, 50 random linear functionals of the density.
"""

import io
import json
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import h5netcdf
import h5py
import numpy as np

from hypermol.analysis.chains import (
    aligned_states,
    has_states,
    knob_occupancy,
    run_knobs,
    sample_sweeps,
)
from hypermol.analysis.functionals import density_functionals
from hypermol.analysis.knobs import Knob
from hypermol.analysis.run import Run
from hypermol.io.atomic import write_bytes

NAME = "posterior.nc"

#: Dimensions of each variable after chain and draw.
_DIMS: dict[str, tuple[str, ...]] = {
    "quaternion": ("particle", "component"),
    "shift_px": ("particle", "axis"),
    "contrast": ("particle",),
    "noise_variance": ("shell",),
    "level": ("term",),
    "pose_sd_rad": (),
    "shift_sd_px": (),
    "contrast_sd": (),
}
_LABELS = {"component": list("wxyz"), "axis": ["x", "y"]}


def write_posterior_nc(run: Run) -> str:
    """Write posterior.nc in the run directory.

    Groups: `posterior` (variables with dimensions chain, draw, ...; states and occupancy in the
    first chain's gauge), `sample_stats` (what trace.jsonl says of each kept sweep; nan where it
    says nothing) and `constant_data` (the functionals' states and widths).

    Returns:
        path of the file.

    Raises:
        InputError: no samples yet.
    """
    functionals = density_functionals(run)
    posterior = {name: (dims, run.stacked(name)) for name, dims in _DIMS.items()}
    posterior["density_functional"] = (("functional",), functionals.values)
    posterior |= _states(run)
    n_chains, n_draws = functionals.values.shape[:2]
    path = run.directory.path / NAME
    whole = io.BytesIO()  # HDF5 crashes where a disk is full; a buffer of the samples is small
    with h5netcdf.File(whole, "w") as file:
        _attributes(file, run)
        group = file.create_group("posterior")
        _attributes(group, run)
        for name, (dims, values) in posterior.items():
            _variable(group, name, ("chain", "draw", *dims), values)
        group = file.create_group("sample_stats")
        _attributes(group, run)
        for name, values in sample_stats(run, n_chains, n_draws).items():
            _variable(group, name, ("chain", "draw"), values)
        group = file.create_group("constant_data")
        _attributes(group, run)
        _variable(group, "functional_width_px", ("functional",), functionals.widths_px)
        for knob in run_knobs(run):
            name = _of_knob(run, "functional_state", knob)
            _variable(group, name, ("functional",), functionals.states[:, knob.column])
    write_bytes(path, whole.getvalue())
    return str(path)


def _of_knob(run: Run, name: str, knob: Knob) -> str:
    """`name` where the run has one knob, `name_KNOB` where it has several."""
    return name if run.state_space.dim == 1 else f"{name}_{knob.name}"


def _states(run: Run) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Dimensions and values of every knob's states and occupancy, in the first chain's gauge."""
    if not has_states(run):
        return {}
    states = aligned_states(run)
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for knob in run_knobs(run):
        found[_of_knob(run, "state", knob)] = (("particle",), states[..., knob.column])
        bins = (_of_knob(run, "bin", knob),)
        found[_of_knob(run, "occupancy", knob)] = (bins, knob_occupancy(run, knob))
    return found


def sample_stats(run: Run, n_chains: int, n_draws: int) -> dict[str, np.ndarray]:
    """Numbers [chains, draws] that the trace holds of each kept sweep."""
    by_sweep = {(record["chain"], record["sweep"]): record for record in run.directory.read_trace()}
    stats: dict[str, np.ndarray] = {}
    for place, chain in enumerate(run.chains[:n_chains]):
        for draw, sweep in enumerate(sample_sweeps(run, chain)[:n_draws]):
            for name, value in by_sweep.get((chain, sweep), {}).items():
                if name in ("chain", "kept") or isinstance(value, (str, list, dict)):
                    continue
                column = stats.setdefault(name, np.full((n_chains, n_draws), np.nan))
                column[place, draw] = np.nan if value is None else float(value)
    return stats


def _attributes(group: Any, run: Run) -> None:
    group.attrs["created_at"] = datetime.now(UTC).isoformat()
    group.attrs["inference_library"] = "hypermol"
    group.attrs["inference_library_version"] = version("hypermol")
    group.attrs["run"] = json.dumps(run.info, sort_keys=True)


def _variable(group: Any, name: str, dims: tuple[str, ...], values: np.ndarray) -> None:
    """A variable with its dimensions and their coordinates."""
    for dim, size in zip(dims, values.shape, strict=True):
        if dim in group.dimensions:
            continue
        group.dimensions[dim] = size
        labels = _LABELS.get(dim)
        if labels is None:
            group.create_variable(dim, (dim,), np.int64, data=np.arange(size))
            continue
        coordinate = group.create_variable(dim, (dim,), h5py.string_dtype())
        coordinate[:] = np.array(labels, dtype=object)
    array = np.asarray(values)
    kind = np.float64 if array.dtype == np.float64 and array.ndim < 3 else np.float32
    group.create_variable(name, dims, kind, data=array.astype(kind))
