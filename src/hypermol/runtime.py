"""The only file that touches JAX's configuration: devices, precision, compilation cache."""

import ctypes
import gc
import os
import sys
from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt

#: glibc's numbers (malloc.h): the most arenas that its allocator keeps, how much free memory may
#: stay at its end, and from what size memory is mapped by itself and given back when freed.
_M_ARENA_MAX, _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -8, -1, -3
_KEPT_BYTES, _MAPPED_BYTES = 1 << 20, 1 << 20


def _c_library() -> ctypes.CDLL | None:
    """The C library, where it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


def _give_back_soon() -> None:
    """Have the allocator keep little of what is freed.

    All threads allocate in one place: compilers in many threads scatter what they free. The
    thresholds, which would grow with what is freed, are held.
    """
    library = _c_library()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)


def release_memory() -> None:
    """Give back what finished work holds: compiled functions, and what the allocator keeps."""
    jax.clear_caches()
    gc.collect()
    trim_memory()


def trim_memory() -> None:
    """Give back what the allocator keeps: compiling leaves a hundred MB or more in small pieces."""
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
    _give_back_soon()
    folder = cache or Path(os.environ.get("HYPERMOL_CACHE", Path.home() / ".cache" / "hypermol"))
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    devices = jax.devices()
    return f"{len(devices)} {devices[0].platform} device(s): {devices[0].device_kind}"
