"""The only file that touches JAX's configuration: devices, precision, compilation cache."""

import os
from pathlib import Path

import jax


def configure(cache: Path | None = None) -> str:
    """Set JAX up for a command; libraries and tests that import hypermol are left alone.

    Matrix products run in full float32 (GPUs would otherwise take TF32, which is too coarse for
    accept decisions), and compiled functions are kept between runs.

    Args:
        cache: folder of compiled functions; None takes HYPERMOL_CACHE or ~/.cache/hypermol.

    Returns:
        A sentence that names the devices.
    """
    folder = cache or Path(os.environ.get("HYPERMOL_CACHE", Path.home() / ".cache" / "hypermol"))
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    devices = jax.devices()
    return f"{len(devices)} {devices[0].platform} device(s): {devices[0].device_kind}"
