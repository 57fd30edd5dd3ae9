"""Fixtures for all tests, and how they are compiled."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

_SHARED_DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"

Columns = Mapping[str, Sequence[object]]

#: More than half of the suite's time would be XLA's compilation for the CPU. `XLA_FLAGS= pytest`
#: compiles as users do.
_QUICK_COMPILATION = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1"
)


def _compile_quickly() -> None:
    """Set the flags for this process and those that it starts, if this XLA knows them."""
    if "XLA_FLAGS" in os.environ or importlib.util.find_spec("jax_plugins") is not None:
        return
    environment = {**os.environ, "XLA_FLAGS": _QUICK_COMPILATION}
    # XLA aborts at a flag that it does not know
    probe = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"], env=environment, capture_output=True
    )
    os.environ["XLA_FLAGS"] = _QUICK_COMPILATION if probe.returncode == 0 else ""


_compile_quickly()


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled functions are kept for the session, as commands keep them between runs.

    Tests that fit twice compile once; programs that tests start have caches of their own.
    """
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("compiled")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.03)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of third-party test files; tests that need it skip where it is absent."""
    if not _SHARED_DATA.is_dir():
        pytest.skip("../shared/data is absent")
    return _SHARED_DATA.resolve()


@pytest.fixture(scope="session")
def arviz() -> ModuleType:
    """ArviZ, imported when a test asks: tests that need it skip where it is absent.

    On its first import of a day ArviZ writes a stamp into the user's cache; of two workers that
    do so at the same moment one finds its file taken away, and its second try goes through.
    """
    if importlib.util.find_spec("arviz") is None:
        pytest.skip("arviz is not installed")
    try:
        return importlib.import_module("arviz")
    except FileNotFoundError:
        return importlib.import_module("arviz")


def star_text(blocks: Mapping[str, Columns]) -> str:
    """A STAR file with one loop a block, written without any library."""
    lines = []
    for name, columns in blocks.items():
        lines += ["", f"data_{name}", "", "loop_"]
        lines += [f"_{column} #{i}" for i, column in enumerate(columns, start=1)]
        lines += [" ".join(str(v) for v in row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def write_star(tmp_path: Path) -> Callable[..., Path]:
    """Writes `{block: {column: values}}` to a STAR file in the test's folder."""

    def write(blocks: Mapping[str, Columns], name: str = "particles.star") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(star_text(blocks))
        return path

    return write


@pytest.fixture
def relion31() -> dict[str, dict[str, list[object]]]:
    """Blocks of a valid RELION 3.1 file of four particles with box 8, two half sets."""
    n = 4
    rng = np.random.default_rng(0)
    return {
        "optics": {
            "rlnOpticsGroup": [1],
            "rlnOpticsGroupName": ["opticsGroup1"],
            "rlnVoltage": [300.0],
            "rlnSphericalAberration": [2.7],
            "rlnAmplitudeContrast": [0.1],
            "rlnImagePixelSize": [1.5],
            "rlnImageSize": [8],
        },
        "particles": {
            "rlnImageName": [f"{i + 1:06d}@stack.mrcs" for i in range(n)],
            "rlnAngleRot": [f"{a:.6f}" for a in rng.uniform(-180, 180, n)],
            "rlnAngleTilt": [f"{a:.6f}" for a in rng.uniform(0, 180, n)],
            "rlnAnglePsi": [f"{a:.6f}" for a in rng.uniform(-180, 180, n)],
            "rlnOriginXAngst": ["1.500000", "-3.000000", "0.000000", "0.750000"],
            "rlnOriginYAngst": ["0.000000", "6.000000", "-1.500000", "0.250000"],
            "rlnDefocusU": ["15000.1", "16000.2", "17000.3", "18000.4"],
            "rlnDefocusV": ["14900.1", "15900.2", "16900.3", "17900.4"],
            "rlnDefocusAngle": ["10.5", "20.5", "30.5", "40.5"],
            "rlnOpticsGroup": [1, 1, 1, 1],
            "rlnRandomSubset": [1, 2, 1, 2],
        },
    }
