"""posterior.nc: a run's samples as ArviZ's InferenceData, one netCDF group a kind of variable.

`arviz.from_netcdf("run/posterior.nc")` opens it. The maps themselves stay in samples/ (they are
too many); here is what is monitored of them, 50 random linear functionals of the density.
"""

import json
import os
from datetime import UTC, datetime
from typing import Any

import h5netcdf
import h5py
import numpy as np

from hypermol import __version__
from hypermol.analysis.chains import aligned_occupancy, aligned_states, has_states, sample_sweeps
from hypermol.analysis.functionals import density_functionals
from hypermol.analysis.run import Run

NAME = "posterior.nc"

#: Dimensions of each variable after chain and draw.
_DIMS: dict[str, tuple[str, ...]] = {
    "quaternion": ("particle", "component"),
    "shift_px": ("particle", "axis"),
    "contrast": ("particle",),
    "state": ("particle",),
    "noise_variance": ("shell",),
    "level": ("term",),
    "pose_sd_rad": (),
    "shift_sd_px": (),
    "contrast_sd": (),
    "occupancy": ("bin",),
    "density_functional": ("functional",),
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
    posterior = {
        name: run.stacked(name) for name in _DIMS if name not in ("state", "density_functional")
    }
    posterior["density_functional"] = functionals.values
    if has_states(run):
        posterior["state"] = aligned_states(run)
        posterior["occupancy"] = aligned_occupancy(run)
    n_chains, n_draws = functionals.values.shape[:2]
    path = run.directory.path / NAME
    partial = path.with_name(NAME + ".part")
    with h5netcdf.File(partial, "w") as file:
        _attributes(file, run)
        group = file.create_group("posterior")
        _attributes(group, run)
        for name, values in posterior.items():
            _variable(group, name, ("chain", "draw", *_DIMS[name]), values)
        group = file.create_group("sample_stats")
        _attributes(group, run)
        for name, values in sample_stats(run, n_chains, n_draws).items():
            _variable(group, name, ("chain", "draw"), values)
        group = file.create_group("constant_data")
        _attributes(group, run)
        _variable(group, "functional_width_px", ("functional",), functionals.widths_px)
        if has_states(run):
            _variable(group, "functional_state", ("functional",), functionals.states[:, 0])
    os.replace(partial, path)
    return str(path)


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
    group.attrs["inference_library_version"] = __version__
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
