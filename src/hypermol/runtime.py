"""The only file that touches JAX's configuration: devices, precision, compilation cache."""

import ctypes
import gc
import os
import sys
from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt

#: glibc's number for the most arenas that its allocator keeps (malloc.h).
_M_ARENA_MAX = -8


def _c_library() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


def _few_arenas() -> None:
    """Have all threads allocate in one place: compilers in many threads scatter what they free."""
    library = _c_library()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, 1)


def release_memory() -> None:
    """Give back what finished work holds: compiled functions, and what the allocator keeps."""
    jax.clear_caches()
    gc.collect()
    library = _c_library()
    if library is not None:
        library.malloc_trim(0)


def on_device(values: npt.ArrayLike) -> jax.Array:
    """Host values as a float32 array, by a copy alone: every eager operation would be compiled,
    once for each shape, and a compiled function holds about 1.5 MB until it is released."""
    return jax.device_put(np.asarray(values, np.float32))


def configure(cache: Path | None = None) -> str:
    """Set JAX up for a command; libraries and tests that import hypermol are left alone.

    Matrix products run in full float32 (GPUs would otherwise take TF32, which is too coarse for
    accept decisions), compiled functions are kept between runs, and memory in one place.

    Args:
        cache: folder of compiled functions; None takes HYPERMOL_CACHE or ~/.cache/hypermol.

    Returns:
        A sentence that names the devices.
    """
    _few_arenas()
    folder = cache or Path(os.environ.get("HYPERMOL_CACHE", Path.home() / ".cache" / "hypermol"))
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    devices = jax.devices()
    return f"{len(devices)} {devices[0].platform} device(s): {devices[0].device_kind}"
